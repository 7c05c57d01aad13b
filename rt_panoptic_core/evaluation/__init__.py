"""Measures of quality that agree with the public evaluators, and the reports made from them.

Every measure has ``update``, ``merge``, ``result`` and ``reset``, counts in integers, and so gives the
same result for any order of images and any grouping over processes.
"""
