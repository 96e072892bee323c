"""`bertile`: the command line. Each command reads its input, calls one function, and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bertile import __version__
from bertile.cli import commands
from bertile.cli import estimate as estimating
from bertile.cli import report as reporting
from bertile.cli import search as searching
from bertile.cli import train as training
from bertile.devices.registry import DeviceOptions
from bertile.errors import BertileError, run_program
from bertile.head.commands import app as head_app

# What every wrong command line raises; of its family, Typer makes only this subclass public.
UsageError = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="bertile",
    help="Block-sparse INT8 BERT encoders for an Alveo U200, bit-exact and checkable on a laptop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
File = Annotated[Path, typer.Argument(help="A .bertile file.", show_default=False)]
DeviceName = Annotated[str, typer.Option("--device", help="integer, csim, rtl or xrt.")]
SEED_MAX = 2**63 - 1
WaveFile = Annotated[Path | None, typer.Option("--waves", help="With --device rtl: FST trace of a layer to write.")]
WaveLayer = Annotated[int | None, typer.Option("--wave-layer", help="With --waves: which layer; 0 if not given.")]
Xclbin = Annotated[Path | None, typer.Option(help="With --device xrt: the bitstream, or an emulated card's.")]
CardIndex = Annotated[int | None, typer.Option("--card", min=0, help="With --device xrt: which card; 0 if not given.")]
Units = Annotated[int, typer.Option(help="Compute units that run a request together: 1 or 3, as packed.")]
Timeout = Annotated[float | None, typer.Option(min=0.001, help="With --device xrt: seconds a launch may take.")]


app.command()(training.train)
app.command()(training.prune)
app.command()(searching.search)
app.command()(reporting.report)


@app.command()
def pack(
    model: Annotated[str, typer.Argument(help="A folder written by prune, minilm, a folder, or an id.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.", show_default=False)],
    calibrate: Annotated[
        Path | None, typer.Option(help="Text file to calibrate on, a sentence or pair a line.")
    ] = None,
    units: Annotated[int, typer.Option(help="3: three compute units can run a request together, too.")] = 1,
) -> None:
    """Quantize to INT8 and pack as weight tiles: a .bertile file."""
    commands.pack(model, output, calibrate, units)


@app.command()
def inspect(
    file: File,
    tokens: Annotated[int, typer.Option(help="Sequence length of the cycle estimate.")] = 128,
    picture: Annotated[Path | None, typer.Option(help="Draw the weight tiles to this PNG.")] = None,
    layer: Annotated[int | None, typer.Option(help="With --picture: only this layer.")] = None,
    json: Json = False,
) -> None:
    """Show what a packed model holds, and its estimated cycles."""
    commands.inspect(file, tokens, picture, layer, json)


@app.command()
def estimate(
    file: File,
    tokens: Annotated[int, typer.Option(help="Length of the sequence.")] = 128,
    clock: Annotated[int | None, typer.Option(help="MHz; the target's first clock if not given.")] = None,
    units: Units = 1,
    roofline: Annotated[Path | None, typer.Option(help="Draw each gemm under its bounds to this PNG.")] = None,
    waterfall: Annotated[Path | None, typer.Option(help="Draw where the cycles go to this PNG.")] = None,
    json: Json = False,
) -> None:
    """Estimate the cycles of a packed model, by layer and operation, and what bounds each."""
    estimating.estimate(file, tokens, clock, units, roofline, waterfall, json)


@app.command()
def run(
    file: File,
    text: Annotated[str, typer.Option(help="Text file, a sentence a line, or two with a TAB; - for standard input.")],
    device: DeviceName = "integer",
    waves: WaveFile = None,
    wave_layer: WaveLayer = None,
    xclbin: Xclbin = None,
    card: CardIndex = None,
    timeout: Timeout = None,
    head: Annotated[Path | None, typer.Option(help="A head (bertile head train): print labels instead.")] = None,
    json: Json = False,
) -> None:
    """Encode sentences, or pairs; print labels of a fine-tuned model, else the nearest sentence of each.

    With --json: labels and logits, or embeddings. With --head, the labels of that head.
    """
    commands.run(file, text, device, DeviceOptions(waves, wave_layer, xclbin, card, timeout), head, json)


@app.command()
def check(
    file: File,
    device: DeviceName = "csim",
    tokens: Annotated[int | None, typer.Option(help="One sequence of this length, not several ragged ones.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=SEED_MAX, help="Seed of the random token ids.")] = 0,
    waves: WaveFile = None,
    wave_layer: WaveLayer = None,
    xclbin: Xclbin = None,
    card: CardIndex = None,
    timeout: Timeout = None,
    units: Units = 1,
    json: Json = False,
) -> None:
    """Compare a device with the integer reference, every value of every layer. Exit code 1 on a mismatch."""
    options = DeviceOptions(waves, wave_layer, xclbin, card, timeout, units)
    raise typer.Exit(commands.check(file, device, tokens, seed, options, json))


@app.command()
def evaluate(
    target: Annotated[Path, typer.Argument(help="A .bertile file; with --device fp32 also a model folder.")],
    task: Annotated[str | None, typer.Option(help="A GLUE task; else what the model was trained for.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with dev.tsv, or a GLUE folder; else the hub.")] = None,
    metric: Annotated[str | None, typer.Option(help="The metric that decides; else the task's own.")] = None,
    device: Annotated[str, typer.Option("--device", help="integer, csim, rtl, xrt or fp32.")] = "integer",
    split: Annotated[str, typer.Option(help="dev or train.")] = "dev",
    limit: Annotated[int | None, typer.Option(min=1, help="Take the first so many examples.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=8, help="Cut texts to so many tokens.")] = None,
    json: Json = False,
) -> None:
    """Score a fine-tuned model on its task, or the sentence embeddings of any other on stsb."""
    from bertile.cli.evaluate import evaluate as score  # scikit-learn: half a second, for this command only

    score(target, task, data, metric, device, split, limit, max_tokens, json)


def version(value: bool) -> None:
    if value:
        print(f"bertile {__version__}")
        raise typer.Exit


app.add_typer(head_app, name="head")


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""


def run_command() -> int | None:
    """Run what the command line asks for. A wrong command line is an error like any other."""
    try:
        return app(standalone_mode=False)
    except UsageError as error:
        if not error.format_message():  # no arguments at all: the help is printed already
            return 2
        raise BertileError(f"{error.format_message()} (see bertile --help)") from None
    except typer.Abort:
        raise KeyboardInterrupt from None


def app_main() -> None:
    """Entry point: what a user can act on becomes one line and exit code 2."""
    run_program(run_command)


if __name__ == "__main__":
    app_main()
