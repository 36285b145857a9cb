"""A training run: the recipe of the paper over Accelerate, from the first epoch or from a checkpoint to the end."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    GradientAccumulationPlugin,
    broadcast_object_list,
    disable_fsdp_ram_efficient_loading,
    gather_object,
    set_seed,
)
from timm.utils import ModelEmaV3
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from assocformer_hf.csv_file import write_csv
from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images_used import ImagesUsed
from assocformer_hf.data.main_process import require_all_processes
from assocformer_hf.data.schema import DataError
from assocformer_hf.evaluation.evaluator import Evaluation, ScoresError, evaluate, start_accelerator
from assocformer_hf.model.configuration_assocformer import ConfigurationError
from assocformer_hf.output_folder import OutputError, OutputFolder
from assocformer_hf.training.arguments import RecipeArguments, epochs_for, head_decay_for
from assocformer_hf.training.checkpoint import (
    CHECKPOINTS,
    FREE_OPTIONS,
    CheckpointError,
    RunState,
    check_output_folder,
    checkpoints,
    load_checkpoint,
    remove_checkpoint,
    save_checkpoint,
)
from assocformer_hf.training.curves import (
    CURVES_FILE,
    HISTORY_FILE,
    flat,
    headline,
    log_line,
    plot_curves,
    rank_key,
    sample_predictions,
    tracker_names,
)
from assocformer_hf.training.head_start import train_head
from assocformer_hf.training.loading import head_start_loader, training_loader
from assocformer_hf.training.machine import TimeEstimate, share_cores, size_warning
from assocformer_hf.training.optimization import create_optimizer, create_scheduler
from assocformer_hf.training.preemption import Preempted, StopRequest, leave_signals_to_the_main_process
from assocformer_hf.training.step import (
    SUMS,
    GradientGuard,
    Progress,
    TrainingError,
    peak_memory,
    train_one_epoch,
    whole_model,
)

LOGS = "logs"


def create_accelerator(recipe: RecipeArguments, unused_parameters: bool = False) -> Accelerator:
    """The accelerator of a run; seeds every process alike, so that all of them build the same model.

    Args:
        recipe: the options of the run.
        unused_parameters: whether some parameters may get no gradient.

    Raises:
        OptionError: if `report_to` names a tracker that is unknown or not installed.
        DataError: if the processes that were started do not see each other.
    """
    set_seed(recipe.seed)
    # Accelerate's way to load weights in one process only breaks on the buffers of batch norm; all build them alike.
    disable_fsdp_ram_efficient_loading()
    steps = recipe.gradient_accumulation_steps
    accelerator = start_accelerator(
        recipe.mixed_precision,
        # As an argument by itself, the launcher's number would silently take its place.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=steps) if steps else None,
        step_scheduler_with_optimizer=False,
        log_with=tracker_names(recipe.report_to) or None,
        project_dir=str(Path(recipe.output_dir) / LOGS),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused_parameters)],
    )
    require_all_processes()
    return accelerator


class TrainingRun:
    """Trains a model, evaluating its raw and averaged weights after each epoch.

    A run that was interrupted anywhere and resumed is the same run: the images of a batch, their augmentation, and what
    the model draws depend on the seed, the epoch, the batch and the process alone.

    Args:
        model: AssocFormer.
        train_images: images to train on.
        eval_images: images to evaluate on.
        recipe: the options of the run. Checkpoints go to `output_dir/checkpoints`, the history to `output_dir`.
        accelerator: from `create_accelerator`.
        save_best: called on the main process whenever raw or averaged weights reach a higher mAP, or the same with a
            lower loss, with this run, the model that holds them, `"raw"` or `"ema"`, and its evaluation.
        num_workers: processes that load images, for each training process; default: see [`share_cores`].
        options: what else the run depends on; it can only be resumed with the same.
        saves: names of the files that `save_best` writes into `output_dir`.

    Attributes:
        output: the folder of the run.
        images_used: which images are trained on and which held out, to be saved with the model; of the main process.

    Raises:
        DataError: if there are too few images for a batch.
        CheckpointError: if `output_dir` holds another run's work, or nothing to resume.
        OutputError: if another job is at work in `output_dir`, or files of others would be replaced.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        train_images: MultiLabelImages,
        eval_images: MultiLabelImages,
        recipe: RecipeArguments,
        accelerator: Accelerator,
        save_best: Callable[["TrainingRun", PreTrainedModel, str, Evaluation], None],
        num_workers: int | None = None,
        options: dict | None = None,
        saves: Sequence[str] = (),
    ):
        self.epochs = epochs_for(len(train_images)) if recipe.epochs == "auto" else recipe.epochs
        head_decay = recipe.head_weight_decay
        if head_decay == "auto":
            head_decay = head_decay_for(len(train_images))
        self.recipe = replace(recipe, epochs=self.epochs, head_weight_decay=head_decay)
        self.accelerator, self.save_best = accelerator, save_best
        self.train_images, self.eval_images = train_images, eval_images
        num_workers = share_cores(accelerator, num_workers)
        fixed = {name: value for name, value in asdict(self.recipe).items() if name not in FREE_OPTIONS}
        self.options = (
            fixed
            | (options or {})
            | {
                "processes": accelerator.num_processes,
                "mixed_precision": accelerator.mixed_precision,
                "gradient_accumulation_steps": accelerator.gradient_accumulation_steps,
            }
        )
        self.output = OutputFolder(recipe.output_dir, recipe.overwrite)
        self.checkpoints = self.output.path / CHECKPOINTS
        self.goes_on = False  # with the run whose work is in the folder; known to the main process
        with ExitStack() as hold:  # of the folder's lock, until the end of the run, or here if something is refused
            if accelerator.is_main_process:
                hold.enter_context(self.output.locked())
                self.goes_on = check_output_folder(self.output, recipe, saves, self.options)
            accelerator.wait_for_everyone()
            self._create_loaders(model.config.num_labels, num_workers)
            self._prepare_model(model, head_decay)
            self._start_or_resume()
            self.hold = hold.pop_all()
        self.stop = StopRequest()
        left = (self.epochs - self.state.epoch) * self.batches - self.state.batches
        # Raw and averaged weights are evaluated.
        self.estimate = TimeEstimate(left, 2 * len(eval_images) / (self.batches * self.images_per_batch))
        if warning := size_warning(model.num_parameters(), accelerator.device):
            accelerator.print(warning)

    def _create_loaders(self, num_labels: int, num_workers: int):
        """The loaders of both splits, and how many batches and optimizer steps an epoch has."""
        recipe, accelerator = self.recipe, self.accelerator
        self.images_per_batch = recipe.batch_size * accelerator.num_processes
        if len(self.train_images) < self.images_per_batch:
            raise DataError(
                f"{len(self.train_images)} training images are fewer than one batch of {recipe.batch_size} "
                f"x {accelerator.num_processes} processes; use a smaller --batch_size"
            )
        self.loading = {
            "collate_fn": MultiLabelCollator(num_labels, with_index=True),
            "num_workers": num_workers,
            "worker_init_fn": leave_signals_to_the_main_process,
        }
        self.train_loader, self.sampler = training_loader(self.train_images, recipe, accelerator, self.loading)
        self.eval_loader = accelerator.prepare(DataLoader(self.eval_images, 2 * recipe.batch_size, **self.loading))
        self.batches = len(self.train_loader)
        self.steps = -(-self.batches // accelerator.gradient_accumulation_steps)

    def _prepare_model(self, model: PreTrainedModel, head_decay: float | None):
        """The model with its head start, its moving average, and what trains it."""
        recipe, accelerator = self.recipe, self.accelerator
        model.to(accelerator.device)
        if accelerator.distributed_type != DistributedType.FSDP:  # which takes no such weights
            # Convolutions of pretrained CNNs train 1.6 times as fast on a CPU so; Swin and CvT do not mind.
            model.to(memory_format=torch.channels_last)
        if recipe.head_epochs and not (recipe.resume and (recipe.resume != "auto" or checkpoints(self.checkpoints))):
            plain = head_start_loader(self.train_images, recipe, accelerator, self.loading)
            decay = head_decay_for(len(self.train_images)) if head_decay is None else head_decay
            train_head(model, self.train_images, plain, accelerator, recipe.head_epochs, decay, recipe.seed)
        self.ema = ModelEmaV3(model, decay=recipe.ema_decay)
        optimizer = create_optimizer(
            model, recipe.learning_rate, recipe.weight_decay, recipe.backbone_learning_rate, head_decay
        )
        scheduler = create_scheduler(optimizer, self.epochs * self.steps, recipe.pct_start)
        self.model, optimizer, self.scheduler = accelerator.prepare(model, optimizer, scheduler)
        self.guard = GradientGuard(self.model, optimizer, accelerator, recipe)

    def _start_or_resume(self):
        """The state of a new run, or of the checkpoint to go on from."""
        recipe, accelerator = self.recipe, self.accelerator
        identities = None
        if accelerator.is_main_process:
            self.images_used, identities = _identify(self.train_images, self.eval_images)
        (identities,) = broadcast_object_list([identities])
        self.state = RunState(options=self.options, images=identities)
        if recipe.resume:
            restored = load_checkpoint(accelerator, self.ema, self.state, self.checkpoints, recipe.resume)
            if restored is not None:
                self.guard.in_a_row = restored.skipped_in_a_row
                self.state = restored
                self._forget_missing_best()
                place = f" and {restored.batches} of {self.batches} batches" if restored.batches else ""
                accelerator.print(f"resumed after epoch {restored.epoch} of {self.epochs}{place}")

    def run(self) -> RunState:
        """Trains to the end.

        Returns:
            The state at the end, with the history of all epochs.

        Raises:
            DataError: if an image cannot be read.
            OutputError: if `output_dir` cannot be written to.
            TrainingError: if the gradients stay infinite or NaN.
            ConfigurationError: if the batches are too small for batch norm.
            Preempted: after SIGTERM or SIGINT, once a checkpoint is written.
        """
        if self.accelerator.is_main_process:
            self.earlier_logs = set((self.output.path / LOGS).rglob("*"))
        options = {  # TensorBoard takes no lists
            name: value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
            for name, value in self.state.options.items()
        }
        try:
            self.accelerator.init_trackers("assocformer", options)
            if self.accelerator.is_main_process and not self.goes_on:  # nothing is left that could refuse the run
                for checkpoint in checkpoints(self.checkpoints):
                    remove_checkpoint(checkpoint)
                self.output.remove(self.output.owned(LOGS))
            with self.stop.catching():
                while self.state.epoch < self.epochs:
                    self._run_epoch()
        except TrainingError as error:
            raise TrainingError(
                f"{error}; {self._last_checkpoint()}; try a lower --learning_rate, or --max_grad_norm"
            ) from error
        except OutputError as error:
            raise OutputError(f"{error}; {self._last_checkpoint()}: go on with --resume auto") from error
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):  # PyTorch's own words
                raise
            raise ConfigurationError(
                f"batch norm has one value for each channel in a batch of {self.recipe.batch_size}: use a larger "
                "--batch_size or --image_size, or --frozen_batch_norm"
            ) from error
        finally:
            if self.accelerator.is_main_process and self.state.history:
                with suppress(OutputError):  # a full disk has its own, better error
                    self.output.write(CURVES_FILE, "run", partial(plot_curves, self.state.history))
            for tracker in self.accelerator.trackers:  # `end_training` would part the processes for good
                tracker.finish()
            self._list_logs()
            self.hold.close()
        return self.state

    def _run_epoch(self):
        """Trains and evaluates one epoch, or what is left of it, and writes what came of it."""
        state, recipe, accelerator = self.state, self.recipe, self.accelerator
        self.started = time.perf_counter() - state.seconds
        self.train_images.set_epoch(state.epoch)
        self.train_loader.set_epoch(state.epoch)
        self.sampler.start = state.batches * self.images_per_batch
        sums = torch.tensor(state.sums[accelerator.process_index] if state.sums else [0.0] * SUMS)
        self.progress = Progress(
            state.epoch, state.batches, self.batches, sums.to(accelerator.device), state.learning_rate
        )

        losses = train_one_epoch(
            self.model, self.ema, self.train_loader, self.scheduler, accelerator, recipe, self.progress, self.guard,
            self._after_step, self.train_images.scale,
        )  # fmt: skip
        images = self.batches * self.images_per_batch - losses["replaced_images"]
        speed = images / (time.perf_counter() - self.started)
        models = {"raw": self.model, "ema": self.ema.module}
        try:
            evaluations = evaluate(models, self.eval_loader, accelerator, self._stop_if_asked)
        except ScoresError as error:
            raise TrainingError(str(error)) from error
        config = self.ema.module.config
        headlines = {key: headline(evaluation, config) for key, evaluation in evaluations.items()}
        name = max(headlines, key=lambda key: rank_key(headlines[key]))
        best = evaluations[name]
        self._note_unreadable(best.unreadable)
        entry = {"epoch": state.epoch + 1, **losses, "images": images, "images_per_second": speed}
        entry |= {"seconds": time.perf_counter() - self.started, "peak_memory_GiB": peak_memory(accelerator.device)}
        state.history.append(entry | headlines)
        state.epoch, state.batches, state.sums, state.seconds = state.epoch + 1, 0, [], 0.0
        state.learning_rate, state.skipped_in_a_row = self.progress.learning_rate, self.guard.in_a_row
        if rank_key(headlines[name]) > (state.best_mAP, -state.best_asl):
            state.best_mAP, state.best_asl = headlines[name]["mAP"], headlines[name]["asl"]
            model = self.ema.module if name == "ema" else whole_model(self.model, self.ema.module, accelerator)
            if accelerator.is_main_process:
                self.save_best(self, model, name, best)
        save_checkpoint(accelerator, self.ema, state, self.output, recipe.keep_checkpoints)
        if accelerator.is_main_process:
            with suppress(OutputError):  # the checkpoint holds the history too
                self.output.write(
                    HISTORY_FILE, "run", partial(write_csv, rows=[flat(epoch) for epoch in state.history])
                )
        accelerator.log(flat(state.history[-1]), step=state.epoch * self.steps)
        for tracker in accelerator.trackers:
            if tracker.name == "tensorboard" and accelerator.is_main_process:
                picture = sample_predictions(self.eval_images, best, config)
                tracker.log_images({"predictions": picture[None]}, step=state.epoch * self.steps, dataformats="NHWC")
        accelerator.print(log_line(state.history[-1], self.epochs, state.best_mAP))

    def _forget_missing_best(self):
        """A checkpoint that was taken from elsewhere came without the best weights of before. Called by every process.

        A model that is here then is of another run.

        Raises:
            CheckpointError: if no epoch is left that could give others.
        """
        state, saved = self.state, self.goes_on and bool(self.output.owned("model"))
        (saved,) = broadcast_object_list([saved])
        if saved or not state.history:
            return
        if state.epoch >= self.epochs:
            raise CheckpointError(
                f"{self.output}: the run of this checkpoint is finished, and the model that it saved is not here; its "
                f"best epoch had a validation mAP of {100 * state.best_mAP:.2f}: take the folder of that run"
            )
        self.accelerator.print(
            f"the best weights so far, of a validation mAP of {100 * state.best_mAP:.2f}, are not in {self.output}; "
            "the best of the epochs to come are saved"
        )
        state.best_mAP = -1.0

    def _after_step(self, step: int):
        """A checkpoint where one is due, and the end where it was asked for."""
        if line := self.estimate.after(self.progress.batches):
            self.accelerator.print(line)
        every = self.recipe.checkpoint_every
        if every and step % every == 0:
            self._save()
        self._stop_if_asked()

    def _stop_if_asked(self):
        if self.stop.agreed(self.accelerator):
            self._save()
            raise Preempted(f"stopped as asked; {self.checkpoints / self.state.name} is where --resume goes on")

    def _save(self):
        """A checkpoint of where the epoch stands."""
        self.state.batches = self.progress.batches
        self.state.sums = self.accelerator.gather(self.progress.sums[None]).tolist()
        self.state.seconds = time.perf_counter() - self.started
        self.state.learning_rate = self.progress.learning_rate
        self.state.skipped_in_a_row = self.guard.in_a_row
        self._note_unreadable([])
        save_checkpoint(self.accelerator, self.ema, self.state, self.output, self.recipe.keep_checkpoints)

    def _last_checkpoint(self) -> str:
        last = checkpoints(self.checkpoints)[-1:]
        return f"the last good checkpoint is {last[0] if last else 'not written yet'}"

    def _list_logs(self):
        """Lists the trackers' files as this run's."""
        logs = self.output.path / LOGS
        if self.accelerator.is_main_process and logs.is_dir():
            new = [path for path in logs.rglob("*") if path.is_file() and path not in self.earlier_logs]
            self.output.add(LOGS, [path.relative_to(self.output.path).as_posix() for path in new])

    def _note_unreadable(self, evaluated: list[int]):
        """Keeps, and shows once, the names of the images that were replaced or left out. Called by every process."""
        if self.train_images.bad_images == self.eval_images.bad_images == "error":
            return
        trained = gather_object(sorted(self.progress.unreadable))
        names = {self.train_images.name(index) for index in trained} | {self.eval_images.name(i) for i in evaluated}
        new = sorted(names - set(self.state.unreadable))
        if new:
            self.accelerator.print(f"cannot be read, left out: {', '.join(new)}")
            self.state.unreadable = sorted(names | set(self.state.unreadable))


def _identify(train_images: MultiLabelImages, eval_images: MultiLabelImages) -> tuple[ImagesUsed, dict[str, str]]:
    """Which images a run uses, and the identities of both datasets."""
    (trained_on, train_identity), (held_out, eval_identity) = train_images.identify(), eval_images.identify()
    return ImagesUsed(trained_on, held_out), {"train on": train_identity, "evaluate on": eval_identity}
