"""``fastclip coder``: texts about classes, and classification by them."""

import typer

from fastclip.cli.coder import classify, few_shot, texts

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


@app.callback()
def coder() -> None:
    """Classify images by their nearness to texts about classes.

    First 'texts'; then 'classify' without labelled images, or 'few-shot' with a few of each class.
    """


app.command("texts")(texts.command)
app.command("classify")(classify.command)
app.command("few-shot")(few_shot.command)
