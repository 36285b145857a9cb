"""Values that options cannot have are refused where the options are made, in one line."""

import pytest

from assocformer_hf.commands.main import create_app
from assocformer_hf.training.arguments import (
    DataArguments,
    HubArguments,
    ModelArguments,
    OptionError,
    RecipeArguments,
    recipe_names,
    training_arguments,
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda: RecipeArguments(epochs=0), "epochs must be at least 1; got 0"),
        (lambda: RecipeArguments(log_every=0), "log_every must be at least 1; got 0"),
        (lambda: RecipeArguments(ema_decay=1.5), "ema_decay must be from 0 to 1; got 1.5"),
        (lambda: RecipeArguments(pct_start=-0.1), "pct_start must be from 0 to 1; got -0.1"),
        (lambda: RecipeArguments(keep_checkpoints=0), "keep_checkpoints must be at least 1; got 0"),
        (
            lambda: RecipeArguments(gradient_accumulation_steps=0),
            "gradient_accumulation_steps must be at least 1; got 0",
        ),
        (lambda: RecipeArguments(learning_rate=0), "learning_rate must be above 0; got 0"),
        (lambda: RecipeArguments(learning_rate=float("nan")), "learning_rate must be above 0; got nan"),
        (lambda: RecipeArguments(max_grad_norm=0), "max_grad_norm must be above 0; got 0"),
        (
            lambda: RecipeArguments(mixed_precision="half"),
            "mixed_precision must be no, fp16, bf16 or fp8; got 'half'",
        ),
        (lambda: RecipeArguments(seed=-1), "seed must be from 0 to 4294967295; got -1"),
        (lambda: RecipeArguments(seed=2**32), "seed must be from 0 to 4294967295; got 4294967296"),
        (lambda: DataArguments(cutout=2), "cutout must be from 0 to 1; got 2"),
        (lambda: DataArguments(num_workers=-1), "num_workers must be at least 0; got -1"),
        (lambda: DataArguments(bad_images="ignore"), "bad_images must be error or skip; got 'ignore'"),
        (lambda: DataArguments(bad_images="auto"), "bad_images must be error or skip; got 'auto'"),
        (lambda: ModelArguments(normalization="mean"), "normalization must be none or backbone; got 'mean'"),
        (lambda: HubArguments(hub_sample_images=-1), "hub_sample_images must be at least 0; got -1"),
    ],
)
def test_values_that_cannot_be_are_refused(options, message):
    with pytest.raises(OptionError) as caught:
        options()
    assert str(caught.value) == message


def test_what_has_no_effect_is_said():
    asked = {"association_norm": "none", "association_weight": 50, "attention_weight": 2}
    assert ModelArguments(**asked).without_effect() == [
        "association_weight=50 has no effect with association_norm=none",
        "attention_weight=2 has no effect with pooling=mean",
    ]
    linear = ModelArguments(fusion="linear", readout="shared")
    assert linear.without_effect() == ["readout=shared has no effect with fusion=linear"]
    for name in recipe_names():
        assert training_arguments(config=name)[0].without_effect() == []


def test_what_a_file_says_of_its_own_dataset_does_not_count_for_another(tmp_path, capsys):
    file, own = tmp_path / "options.yaml", tmp_path / "birds"
    read = "data_dir: pics\nlabel_column: species\nlabel_names: [owl, wren]\nsplit_seed: 3\n"
    file.write_text(f"dataset: {own}\n{read}backbone: tiny-cvt\n")

    def read_by(**options):
        _, data, _, source, _ = training_arguments(file, **options)
        return data.dataset, data.data_dir, source.label_column, source.label_names, source.split_seed

    kept = "pics", "species", ["owl", "wren"], 3
    assert read_by() == (str(own), *kept)
    assert read_by(dataset=f"{tmp_path}/./birds") == (f"{tmp_path}/./birds", *kept)
    assert capsys.readouterr().out == ""
    assert read_by(dataset="fish", label_column="kind") == ("fish", None, "kind", None, 3)
    assert capsys.readouterr().out == (
        f"note: {file}: says how {own} is read, which does not count for fish: data_dir=pics, label_column=species, "
        "label_names=['owl', 'wren']\n"
    )
    file.write_text(read)
    assert read_by(dataset="fish") == ("fish", *kept)


def test_the_command_leaves_out_what_a_file_says_of_another_dataset(tmp_path, capsys):
    (tmp_path / "options.yaml").write_text(f"dataset: {tmp_path}\ndata_dir: pics\nlabel_column: species\n")
    app = create_app(["train"])
    words = ["train", "--config", str(tmp_path / "options.yaml"), "--label_column", "kind"]
    assert app.parse_args(words)[1].kwargs["data"].data_dir == "pics"
    given = app.parse_args([*words, "--dataset", "fish"])[1].kwargs
    assert (given["data"].data_dir, given["source"].label_column) == (None, "kind")
    assert "does not count for fish: data_dir=pics, label_column=species" in capsys.readouterr().out
