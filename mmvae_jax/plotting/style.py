"""What all pictures share: resolution and colours."""

DPI = 150
INK, FAINT, RULE = "#1f2933", "#7b8794", "#e4e7eb"
COLOURS = ("#2563a8", "#d9622b", "#2f8f5b", "#8a4fbf", "#c2334d", "#7a6a3a", "#3aa0b8", "#6b7280")


def marker(index: int) -> tuple[str, str]:
    """Symbol and line of the index-th curve of a figure: more different ones than there are colours."""
    return "osD^vPX*"[index % 8], ("-", "--", ":")[index // 8 % 3]
