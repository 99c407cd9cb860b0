"""What several runs say together: tables with intervals, effects, plots, and a page."""
