"""What other programs expect, by fastclip: functions with their names, arguments and results.

- `fastclip.adapters.open_clip`: ``get_clip_metrics``
- `fastclip.adapters.clip_benchmark`: a model type and two tasks of CLIP_benchmark
- `fastclip.adapters.fiftyone`: masks and features for FiftyOne

None of these programs is needed to import the modules.
"""
