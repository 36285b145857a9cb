"""AssocFormer in the browser: labels of a picture, how they go together, and why each was predicted."""

import os
from pathlib import Path

import gradio as gr
import torch
from handler import MAX_BYTES, EndpointHandler, RequestError
from huggingface_hub import snapshot_download
from panels import MAX_REASONS, STYLE, association_panel, error_panel, labels_panel, note_panel, reason_panel

MODEL = os.environ.get("MODEL_ID", "org/name")
EXPLAINABLE = 30  # labels of a picture that can be explained: the likeliest
EMPTY = note_panel("Upload a picture or pick an example.")


class Picture(gr.Image):
    """An image input that hands on the uploaded file as it is, so that what is wrong with it can be said here."""

    is_template = True  # drawn by the page's own image component

    def preprocess(self, payload):
        """The path of the upload, which Gradio has checked to be one."""
        return None if payload is None else payload.path


@torch.inference_mode()
def analyse(picture: str | None, threshold: float, own: bool):
    """A new picture: what the other controls show of it, which is kept for them, and all panels."""
    if picture is None:
        return None, *show(None, threshold, own)
    try:
        content = Path(picture).read_bytes()
        pixels = served.pixels(content)[None].to(served.model.device)
    except RequestError as error:
        return None, error_panel(str(error)), *show(None, threshold, own)[1:]
    output = served.model(pixels, output_features=True)
    scores = output.logits.sigmoid()[0]
    ranked = scores.argsort(descending=True)[:EXPLAINABLE]
    found = {"scores": scores.cpu().numpy(), "ranked": ranked.tolist()}
    if output.association_logits is not None:
        head = served.model.head
        association, contributions = (rows[0] for rows in head.explain(output.features, ranked[None]))
        strongest = contributions.abs().topk(min(MAX_REASONS, len(served.names))).indices
        bias = head.fusion_weights[0] * head.association.readout.bias.expand(len(served.names))[ranked]
        logits = output.logits[0, ranked]
        found |= {
            "association": association[:, ranked].cpu().numpy(),
            "through": strongest.tolist(),
            "contributions": contributions.gather(1, strongest).tolist(),
            "sum": contributions.sum(1).tolist(),
            "bias": bias.tolist(),
            "logits": logits.tolist(),
        }
    return found, *show(found, threshold, own)


def show(found: dict | None, threshold: float, own: bool):
    """The panels for a threshold, or each label's own; the explanation starts with the likeliest label."""
    if found is None:
        return EMPTY, "", gr.update(choices=[], value=None), ""
    choices = [(f"{served.names[i]} ({found['scores'][i]:.2f})", served.names[i]) for i in found["ranked"]]
    first = choices[0][1]
    thresholds = served.model.config.thresholds if own else [threshold] * len(served.names)
    return (
        labels_panel(found, served.names, thresholds),
        association_panel(found, served.names, thresholds),
        gr.update(choices=choices, value=first),
        reason_panel(found, served.names, first),
    )


def rethreshold(found: dict | None, threshold: float, own: bool):
    """The panels that depend on the threshold."""
    return show(found, threshold, own)[:2]


def explain(found: dict | None, label: str | None):
    """Why a label got its score."""
    return reason_panel(found, served.names, label) if found and label else ""


def build() -> gr.Blocks:
    """The page."""
    default, has_own = served.model.config.threshold, served.model.config.label_thresholds is not None
    samples = sorted(str(path) for path in Path(folder, "samples").glob("*"))
    with gr.Blocks(title="AssocFormer", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        found = gr.State(time_to_live=3600)
        gr.Markdown(
            f"# What is in the picture?\n{Path(MODEL).name} knows {len(served.names)} labels, and which of them go "
            "together. Each score is a probability of its own: they do not sum to one."
        )
        with gr.Row():
            with gr.Column():
                picture = Picture(label="Picture", sources=["upload", "clipboard"], height=300, buttons=[])
                if samples:
                    gr.Examples(samples, picture, label="Examples", cache_examples=False)
                threshold = gr.Slider(
                    0, 1, value=default, step=0.01, label="Threshold: predict labels from this score on"
                )
                own = gr.Checkbox(has_own, label="Each label has a threshold of its own", visible=has_own)
            with gr.Column():
                gr.Markdown("## Labels")
                labels = gr.HTML(EMPTY)
        with gr.Row():
            with gr.Column():
                gr.Markdown("## How they go together")
                association = gr.HTML()
            with gr.Column():
                gr.Markdown("## Why this label?")
                label = gr.Dropdown([], label="Label", interactive=True)
                reason = gr.HTML()
        panels, controls = [labels, association, label, reason], [threshold, own]
        picture.change(analyse, [picture, *controls], [found, *panels], api_name="analyse", show_progress="minimal")
        quiet = {"api_visibility": "private", "show_progress": "hidden"}
        threshold.input(lambda: False, None, own, **quiet)
        for control in controls:
            control.change(rethreshold, [found, *controls], panels[:2], **quiet)
        label.input(explain, [found, label], reason, **quiet)
    return page


folder = MODEL if Path(MODEL).is_dir() else snapshot_download(MODEL)
served = EndpointHandler(folder)

if __name__ == "__main__":
    build().launch(
        theme=gr.themes.Base(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        css=STYLE,
        max_file_size=5 * MAX_BYTES,  # beyond, Gradio says nothing; up to here the handler says what is wrong
        footer_links=[],
        state_session_capacity=200,
        ssr_mode=False,
    )
