"""AssocFormer in the browser: the labels of pictures, where in them each was seen, and why."""

import base64
import io
import json
import os
from pathlib import Path
from threading import Lock

import gradio as gr
import torch
from handler import MAX_BYTES, EndpointHandler, RequestError
from huggingface_hub import snapshot_download
from panels import association_graph, page_html
from PIL import Image
from starlette.middleware import Middleware
from why import why_in_words
from worth import is_worth_showing, worth_sentence

MODEL = os.environ.get("MODEL_ID", "org/name")
HERE = Path(__file__).parent
MOST = 30  # labels of a picture that are listed, the likeliest
HIDDEN = 7  # squares a side that are hidden, one after the other, where the model cannot say itself where it looked
NAMED = 2  # other labels that an explanation names
PREVIEW, THUMBNAIL = 640, 160  # pixels
MAX_REQUEST = 2 * MAX_BYTES  # of a request's body: base64 takes a third more than the file


class SmallRequests:
    """Refuses requests that are larger than the page ever sends, before they are read."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        """ASGI."""
        if scope["type"] == "http" and scope["method"] == "POST":
            size = dict(scope["headers"]).get(b"content-length", b"")
            if not size.isdigit() or int(size) > MAX_REQUEST:
                await send({"type": "http.response.start", "status": 413, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
        await self.app(scope, receive, send)


def analyse(request: dict) -> dict:
    """What the page shows of a picture.

    Args:
        request: the `picture` as a data URL, and whether it needs a `preview`, as the browser cannot show its format.
    """
    try:
        pixels = served.pixels(request.get("picture"))[None].to(served.model.device)
        with working, torch.inference_mode():
            found = described(pixels)
        if request.get("preview"):
            found["preview"] = shown(request["picture"])
        return found
    except RequestError as error:
        message = str(error)
        return {"error": f"{message[:1].upper()}{message[1:]}."}


def described(pixels: torch.Tensor) -> dict:
    """The likeliest labels of an image `(1, 3, height, width)`, with the parts of their logits."""
    output = served.model(pixels, output_features=True)
    scores, logits = output.logits.sigmoid()[0], output.logits[0]
    ranked = scores.argsort(descending=True)[:MOST]
    labels = [
        {
            "name": served.names[i],
            "score": scores[i].item(),
            "threshold": thresholds[i],
            "logit": logits[i].item(),
        }
        for i in ranked.tolist()
    ]
    found = {"labels": labels}
    if output.places is not None:
        found["places"] = output.places[0, ranked].tolist()
    if output.association_logits is None or not is_worth_showing(worth):
        return found
    association, contributions = (rows[0] for rows in served.model.head.explain(output.features, ranked[None]))
    for label, i, row in zip(labels, ranked.tolist(), contributions, strict=True):
        parts = enumerate(zip(served.names, row.tolist(), strict=True))
        others = [one for j, one in parts if j != i]
        label["others"] = sum(part for _, part in others)
        label["why"] = why_in_words(label["logit"] - label["others"], others, label["threshold"])
        label["named"] = sorted(others, key=lambda one: -abs(one[1]))[:NAMED]
    found["graph"] = association_graph(association[:, ranked].tolist(), labels)
    return found


def locate(request: dict) -> dict:
    """Where the labels of a picture were seen by a model that does not say so itself, `places` as in [`described`].

    Squares are hidden behind the picture's mean colour, one after the other: how far does each logit fall?
    """
    pixels = served.pixels(request["picture"]).to(served.model.device)
    mean, (high, wide) = pixels.mean((1, 2)), pixels.shape[1:]
    hidden = pixels.repeat(HIDDEN**2, 1, 1, 1)
    for i in range(HIDDEN**2):
        top, left = divmod(i, HIDDEN)
        rows = slice(top * high // HIDDEN, (top + 1) * high // HIDDEN)
        columns = slice(left * wide // HIDDEN, (left + 1) * wide // HIDDEN)
        hidden[i, :, rows, columns] = mean[:, None, None]
    with working, torch.inference_mode():
        whole = served.model(pixels[None]).logits[0]
        falls = whole - torch.cat([served.model(part).logits for part in hidden.split(8)])
    ranked = whole.sigmoid().argsort(descending=True)[:MOST]
    return {"places": falls[:, ranked].T.reshape(-1, HIDDEN, HIDDEN).tolist()}


def sample(number: int) -> str:
    """An example, as a data URL."""
    return data_url(samples[int(number)].read_bytes())


def tag(picture: str) -> list[dict]:
    """For programs: the labels of a picture, given as base64 or a data URL, by falling score."""
    answer = served({"inputs": picture, "parameters": {"top_k": len(served.names)}})
    return answer if isinstance(answer, list) else [answer]


def data_url(content: bytes) -> str:
    """A JPEG as a URL that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"


def shown(picture: str, side: int = PREVIEW) -> str:
    """A picture as a small JPEG, which every browser shows."""
    return reduced(served.processor.decode(base64.b64decode(picture.partition(",")[2])), side)


def reduced(image: Image.Image, side: int) -> str:
    """An image as the URL of a JPEG of at most so many pixels a side."""
    image = image.convert("RGB")
    image.info.clear()  # comments, which PIL would write
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return data_url(file.getvalue())


def build() -> gr.Blocks:
    """The page."""
    config = served.model.config
    examples = [(path.stem.replace("_", " "), reduced(Image.open(path), THUMBNAIL)) for path in samples]
    settings = {
        "threshold": config.threshold,
        "own": config.label_thresholds is not None,
        "most_bytes": MAX_BYTES,
        "locates": config.pooling != "attention",
    }
    note = "" if config.fusion == "linear" else worth_sentence(worth)
    with gr.Blocks(title=f"{Path(MODEL).name}: labels of a picture", analytics_enabled=False) as page:
        gr.HTML(
            html_template=page_html(Path(MODEL).name, served.names, examples, settings, note),
            js_on_load=(HERE / "page.js").read_text(encoding="utf-8"),
            server_functions=[analyse, locate, sample],
            apply_default_css=False,
        )
        gr.api(tag, api_name="tag")
    return page


folder = Path(MODEL if Path(MODEL).is_dir() else snapshot_download(MODEL))
served = EndpointHandler(str(folder))
thresholds = served.model.config.thresholds
samples = sorted((folder / "samples").glob("*.jpg"))
working = Lock()  # one picture at a time goes through the model
metrics = folder / "metrics.json"
measured = json.loads(metrics.read_text(encoding="utf-8")) if metrics.is_file() else {}
worth = (measured.get("association") or {}).get("worth")

if __name__ == "__main__":
    build().launch(
        theme=gr.themes.Base(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        css=(HERE / "style.css").read_text(encoding="utf-8"),
        footer_links=[],
        ssr_mode=False,
        app_kwargs={"middleware": [Middleware(SmallRequests)]},
    )
