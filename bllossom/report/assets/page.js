const root = document.documentElement;
const system = window.matchMedia("(prefers-color-scheme: dark)");
const specs = JSON.parse(document.getElementById("specs")?.textContent ?? "[]");
let chosen = null; // by the button; the system's theme until then

function colours() {
  const style = getComputedStyle(root);
  return Object.fromEntries(["text", "quiet", "line"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function draw() {
  root.dataset.theme = chosen ?? (system.matches ? "dark" : "light");
  const { text, quiet, line } = colours();
  const config = {
    background: "transparent",
    font: getComputedStyle(document.body).fontFamily,
    axis: { labelColor: quiet, titleColor: text, gridColor: line, domainColor: quiet, tickColor: quiet },
    legend: { labelColor: text, titleColor: text },
    view: { stroke: null },
  };
  for (const place of document.querySelectorAll("[data-chart]")) {
    window.vegaEmbed(place, specs[Number(place.dataset.chart)], { config, actions: false, renderer: "svg" });
  }
}

document.getElementById("theme").addEventListener("click", () => {
  chosen = root.dataset.theme === "dark" ? "light" : "dark";
  draw();
});
system.addEventListener("change", draw);
draw();

for (const figure of document.querySelectorAll("data")) {
  figure.title = figure.dataset.source; // where it stands
}
