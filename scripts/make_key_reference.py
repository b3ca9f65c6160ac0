"""Write docs/keys.md, the keys of every config, from the configs themselves.

.venv/bin/python scripts/make_key_reference.py
"""

from pathlib import Path

from bllossom.keys import markdown
from bllossom.pipeline import STAGES
from bllossom.recipe.recipe import Recipe

REFERENCE = Path(__file__).parents[1] / "docs/keys.md"
HEAD = """# Keys

Every key of every config, as `bllossom STAGE --help` lists them too. A key stands in the YAML or is typed as
`key=value` behind it; `a.b` is `b` in the block `a`, `a[]` is each element of a list, `a.*` each value of a mapping.
Whole numbers may be written `1e4`, `10B` (K, M, B or G, T: each a thousand of the one before) or `64MB` (kB, MB, GB,
TB; KiB, MiB, GiB, TiB). Paths may begin with `~`. A hub id is `owner/name`, or `owner/name@revision` for a branch, a
tag or a commit.

This page is made by `scripts/make_key_reference.py`.
"""


def main() -> None:
    """Write the page."""
    parts = [HEAD]
    for name, stage in STAGES.items():
        parts.append(f"## {name}\n\n{stage.summary}\n\n{markdown(stage.config())}\n")
    parts.append(f"## A recipe\n\nNamed steps in order: `bllossom run RECIPE`.\n\n{markdown(Recipe)}\n")
    REFERENCE.write_text("\n".join(parts), encoding="utf8")


if __name__ == "__main__":
    main()
