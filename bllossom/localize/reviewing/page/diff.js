"use strict";

/** Word diff of two texts: [["=" | "-" | "+", text], ...], by the longest common subsequence of words. */
function wordDiff(before, after) {
  const a = before.match(/\s+|\S+/g) || [];
  const b = after.match(/\s+|\S+/g) || [];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const left = a.slice(start, a.length - end);
  const right = b.slice(start, b.length - end);
  const parts = [];
  const push = (kind, word) => {
    if (parts.length && parts[parts.length - 1][0] === kind) parts[parts.length - 1][1] += word;
    else parts.push([kind, word]);
  };
  a.slice(0, start).forEach((word) => push("=", word));
  middle(left, right).forEach(([kind, word]) => push(kind, word));
  a.slice(a.length - end).forEach((word) => push("=", word));
  return parts;
}

function middle(left, right) {
  if (left.length * right.length > 4e6) return [["-", left.join("")], ["+", right.join("")]];
  const width = right.length + 1;
  const longest = new Uint16Array((left.length + 1) * width);
  for (let i = left.length - 1; i >= 0; i -= 1) {
    for (let j = right.length - 1; j >= 0; j -= 1) {
      longest[i * width + j] = left[i] === right[j]
        ? longest[(i + 1) * width + j + 1] + 1
        : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  const parts = [];
  let i = 0;
  let j = 0;
  while (i < left.length && j < right.length) {
    if (left[i] === right[j]) { parts.push(["=", left[i]]); i += 1; j += 1; }
    else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) { parts.push(["-", left[i]]); i += 1; }
    else { parts.push(["+", right[j]]); j += 1; }
  }
  for (; i < left.length; i += 1) parts.push(["-", left[i]]);
  for (; j < right.length; j += 1) parts.push(["+", right[j]]);
  return parts;
}
