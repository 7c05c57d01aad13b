"""Self-contained HTML reports, put together from sections.

A report is a :class:`~rt_panoptic_core.evaluation.report.page.Page` of
:class:`~rt_panoptic_core.evaluation.report.page.Section`; :mod:`charts` and :mod:`pictures` make what
goes into them. Nothing is loaded from elsewhere: no script, font or picture::

    page = Page("Two cameras", "recorded in March")
    page.add(Section("Summary", tiles([Tile("PQ", "54.1", "over all classes")])))
    page.add(Section("Over time", line_chart([Line("PQ", seconds, values)], x_title="s")))
    page.write("report.html")
"""
