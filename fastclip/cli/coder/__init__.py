"""``fastclip coder``: texts about classes, and classification by them."""

from fastclip.cli._common import commands, register
from fastclip.cli.coder import classify, few_shot, texts

app = commands(no_args_is_help=True)


@app.callback()
def coder() -> None:
    """Classify images by their nearness to texts about classes.

    First 'texts'; then 'classify' without labelled images, or 'few-shot' with a few of each class.
    """


register(app, "texts", texts.command)
register(app, "classify", classify.command)
register(app, "few-shot", few_shot.command)
