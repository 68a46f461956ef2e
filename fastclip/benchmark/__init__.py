"""Measuring operations beside their peers, with checked answers: ``fastclip bench``.

`case` is what is measured and `questions` makes cases of operations; `measure` checks answers and
takes times by `clock`, `peak` tells what the machine can do at most, `results` writes the files.
The benches of the repository are made of these, too.
"""
