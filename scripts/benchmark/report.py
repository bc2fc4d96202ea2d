"""What was measured, as a table of medians, as ratios against restic, and as a plot."""

import html
import math
from statistics import median

VERBS = {
    "backup": "first backup",
    "rescan": "unchanged rescan",
    "changed": "3 % of pages changed",
    "check": "check, all data read",
    "restore": "restore",
    "prune": "forget and prune",
}
COLOURS = {"strongroom": "#0b6e4f", "restic": "#c8553d", "restic-new": "#e8998d", "rustic": "#6c5b7b", "borg": "#8d99ae"}


class Figures:
    """Medians of everything that was measured."""

    def __init__(self, rows):
        self.values = {}
        for row in rows:
            for figure in ("wall", "cpu", "peak_mib", "size_kib"):
                if row[figure] != "":
                    key = (int(row["set"]), row["verb"], row["tool"], figure)
                    self.values.setdefault(key, []).append(float(row[figure]))
        keys = list(self.values)
        self.sets = sorted({key[0] for key in keys})
        self.verbs = [verb for verb in VERBS if any(key[1] == verb for key in keys)]
        self.tools = [tool for tool in COLOURS if any(key[2] == tool for key in keys)]

    def get(self, number, verb, tool, figure):
        """One median, or None."""
        values = self.values.get((number, verb, tool, figure))
        return median(values) if values else None

    def cells(self):
        """Every set and verb of which there is anything."""
        return [(number, verb) for number in self.sets for verb in self.verbs
                if any((number, verb, tool, "wall") in self.values for tool in self.tools)]

    def ratio(self, number, verb, tool, figure):
        """Ours divided by the other's."""
        ours, theirs = self.get(number, verb, "strongroom", figure), self.get(number, verb, tool, figure)
        return ours / theirs if ours and theirs else None


def table(figures, names):
    """Markdown: one line for each set and verb, in each cell `wall s / CPU s / peak MiB`."""
    lines = ["| set | verb | " + " | ".join(figures.tools) + " |", "|---|---|" + "---|" * len(figures.tools)]
    for number, verb in figures.cells():
        cells = []
        for tool in figures.tools:
            wall, cpu, peak = (figures.get(number, verb, tool, f) for f in ("wall", "cpu", "peak_mib"))
            cells.append("" if wall is None else f"{wall:.2f} / {cpu:.2f} / {peak:.0f}")
        lines.append(f"| {names[number]} | {VERBS[verb]} | " + " | ".join(cells) + " |")
    for verb, words in (("backup", "repository, MiB"), ("prune", "repository after prune, MiB")):
        for number in figures.sets:
            sizes = [figures.get(number, verb, tool, "size_kib") for tool in figures.tools]
            if any(sizes):
                cells = ["" if size is None else f"{size / 1024:.1f}" for size in sizes]
                lines.append(f"| {names[number]} | {words} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratios(figures, names):
    """Markdown: Strongroom divided by each restic, and the geometric means over all cells."""
    lines = []
    for tool in (tool for tool in figures.tools if tool.startswith("restic")):
        lines += [f"Strongroom / {tool}", "", "| set | verb | wall | CPU | peak memory | repository |", "|---|---|---|---|---|---|"]
        collected = {"wall": [], "cpu": [], "peak_mib": [], "size_kib": []}
        for number, verb in figures.cells():
            cells = []
            for figure, ratios_of_figure in collected.items():
                ratio = figures.ratio(number, verb, tool, figure)
                cells.append("" if ratio is None else f"{ratio:.2f}")
                if ratio is not None:
                    ratios_of_figure.append(ratio)
            lines.append(f"| {names[number]} | {VERBS[verb]} | " + " | ".join(cells) + " |")
        means = ["" if not values else f"{math.exp(sum(map(math.log, values)) / len(values)):.2f}"
                 for values in collected.values()]
        lines += ["| all | geometric mean | " + " | ".join(means) + " |", ""]
    return "\n".join(lines)


def plot(figures, names):
    """SVG: a panel for each set and verb, a bar of CPU seconds for each tool."""
    panel_w, panel_h, left, top, bar = 250, 26 + 17 * len(figures.tools), 150, 62, 13
    width = left + panel_w * len(figures.sets) + 10
    height = top + panel_h * len(figures.verbs) + 20
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11" fill="#222">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<text x="10" y="20" font-size="14" font-weight="bold">CPU seconds (bars) and wall seconds, medians</text>',
    ]
    x = 10
    for tool in figures.tools:
        out.append(f'<rect x="{x}" y="30" width="10" height="10" fill="{COLOURS[tool]}"/>'
                   f'<text x="{x + 14}" y="39">{tool}</text>')
        x += 95
    for column, number in enumerate(figures.sets):
        out.append(f'<text x="{left + column * panel_w}" y="{top - 6}" font-weight="bold">{html.escape(names[number])}</text>')
    for row, verb in enumerate(figures.verbs):
        y = top + row * panel_h
        out.append(f'<line x1="10" x2="{width - 10}" y1="{y}" y2="{y}" stroke="#ddd"/>'
                   f'<text x="10" y="{y + 24}" font-weight="bold">{html.escape(VERBS[verb])}</text>')
        for column, number in enumerate(figures.sets):
            measured = [(tool, figures.get(number, verb, tool, "cpu"), figures.get(number, verb, tool, "wall"))
                        for tool in figures.tools]
            longest = max((cpu for _, cpu, _ in measured if cpu is not None), default=0) or 1
            for index, (tool, cpu, wall) in enumerate(measured):
                if cpu is None:
                    continue
                x, bar_y = left + column * panel_w, y + 10 + index * 17
                length = max(1.0, cpu / longest * (panel_w - 105))
                out.append(f'<rect x="{x}" y="{bar_y}" width="{length:.1f}" height="{bar}" fill="{COLOURS[tool]}"/>'
                           f'<text x="{x + length + 4:.1f}" y="{bar_y + 11}">{cpu:.2f} · {wall:.2f} s</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"
