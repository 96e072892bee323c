"""Where the parts of a checkout are."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SPEC_FILE = ROOT / "spec" / "accelerator.toml"
KERNELS_FILE = ROOT / "spec" / "kernels.toml"
TARGETS_DIR = ROOT / "spec" / "targets"
HLS_DIR = ROOT / "hls"
RTL_DIR = ROOT / "rtl"
BITSTREAMS_DIR = ROOT / "bitstreams"
EMULATION_DIR = ROOT / "host" / "emulation"
BUILD_DIR = ROOT / "build"
TRAINING_LOG = "training.json"  # in the folder of a model that was trained
