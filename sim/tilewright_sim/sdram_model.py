# SPDX-License-Identifier: Apache-2.0
"""A strict model of an SDR SDRAM, in Verilog, for benches of the controller and for whole boards.

The module ``sdram_model`` has the pins of a chip (its data pins split in ``dq_i`` with ``dq_oe_i``, and ``dq_o`` with
``dq_oe_o``), and ``power``. It keeps a chip's times in picoseconds by itself, knowing nothing of the controller. The
first violation of :data:`RULES` is printed, and stands on ``error``, ``error_ps`` and ``error_bank`` from then on;
``broken`` tells which rules were violated at all.

Stricter than a chip: no burst may be cut short, nobody may drive the data pins but for words that are written, a cycle
in which nobody does goes between reading and writing, and at most ``postponed`` refreshes may be behind.

A word is sampled at the edge where the datasheet has it, ``cas`` edges after the command's. DQM masks bytes that are
written at once, and those that are read two cycles later. What is not driven or was never written is noise.

Not modelled, and so errors: auto precharge, the end of a burst by command, power-down, full-page and interleaved
bursts, single writes.
"""

import importlib.resources
from dataclasses import dataclass

from tilewright_hdl.sdram_config import TIMES, SdramChip

__all__ = ["RULES", "Violation", "broken_rules", "sdram_model", "violation"]

RULES: dict[str, str] = {
    "TOO_EARLY": "a command came before the power-up time was over",
    "CKE_LOW": "CKE is low after power-up",
    "NOT_PRECHARGED": "the banks were never precharged after power-up",
    "NOT_READY": "a row is opened before the mode was loaded and 8 refreshes were done",
    "MODE_VALUE": "the mode is none that is modelled (sequential bursts of 1 to 8, CAS latency 2 or 3)",
    "MODE_CAS": "the CAS latency of the mode is too short for the clock",
    "ALREADY_OPEN": "a row is opened in a bank that has one open",
    "CLOSED": "a bank is read or written that has no row open",
    "ROW_OPEN": "a refresh, or loading the mode, needs all banks closed",
    "COLUMN": "a column address has bits beyond the columns of the chip",
    "AUTO_PRECHARGE": "auto precharge is not modelled",
    "BURST_STOP": "the end of a burst by command is not modelled",
    "INTERRUPTED": "a READ or WRITE cuts a burst short",
    "TRUNCATED": "a PRECHARGE cuts a burst short",
    "T_RCD": "tRCD: ACTIVE to READ or WRITE is too short",
    "T_RP": "tRP: the time after PRECHARGE is too short",
    "T_RAS": "tRAS: ACTIVE to PRECHARGE is too short",
    "T_RAS_MAX": "tRAS: a row was open for too long",
    "T_RC": "tRC: ACTIVE to ACTIVE in a bank is too short",
    "T_RRD": "tRRD: ACTIVE to ACTIVE in another bank is too short",
    "T_RFC": "tRFC: the time after REFRESH is too short",
    "T_WR": "tWR: last word written to PRECHARGE is too short",
    "T_MRD": "tMRD: the time after LOAD MODE is too short",
    "MISSED_REFRESH": "too many refreshes are behind",
    "CONTENTION": "both sides drive the data pins",
    "TURNAROUND": "no cycle without a driver goes between words that are read and words that are written",
    "NO_DATA": "the data pins are not driven with a word that is written",
    "STRAY": "the data pins are driven with no word that is written",
    "UNWRITTEN": "a byte is read that was never written",
}
"""What the model checks. The number of a rule on ``error`` is its place, from 1."""


@dataclass(frozen=True)
class Violation:
    """A rule that was broken, the bank, and picoseconds since power-up."""

    rule: str
    bank: int
    time_ps: int

    def __str__(self) -> str:
        return f"{self.time_ps} ps after power-up, bank {self.bank}: {RULES[self.rule]}"


def violation(error: int, bank: int, time_ps: int) -> Violation | None:
    """What stands on ``error``, ``error_bank`` and ``error_ps``; None if nothing was violated."""
    return Violation(list(RULES)[error - 1], bank, time_ps) if error else None


def broken_rules(broken: int) -> set[str]:
    """Names of the rules on ``broken``."""
    return {rule for number, rule in enumerate(RULES, 1) if broken >> number & 1}


def sdram_model(chip: SdramChip, clock_hz: int, *, postponed: int = 8, check_unwritten: bool = False) -> str:
    """Verilog text of the module ``sdram_model`` for a chip at a clock.

    Parameters
    ----------
    postponed : int
        Refreshes that may be behind. A controller that is reset in the middle misses as many as its power-up time has.
    check_unwritten : bool
        Whether reading a byte that was never written is an error.
    """
    text = importlib.resources.files("tilewright_sim").joinpath("sdram_model.v").read_text(encoding="utf-8")
    latencies = dict(chip.cas_clocks)
    never = 10**12  # A clock period that no clock has.
    values = {
        "DATA_BITS": chip.data_bits,
        "ROW_BITS": chip.row_bits,
        "COLUMN_BITS": chip.column_bits,
        "CHECK_UNWRITTEN": int(check_unwritten),
    }
    times = {
        "CLOCK_PS": 10**12 // clock_hz,
        "CAS2_PS": latencies.get(2, never),
        "CAS3_PS": latencies.get(3, latencies.get(2, never)),
        "POSTPONED": postponed,
        **{name.upper(): getattr(chip, name) for name in TIMES},
    }
    lines = [f"  parameter [63:0] {name} = 64'd{value}" if name in times else f"  parameter {name} = {value}"
             for name, value in (values | times).items()]
    return text.replace("//@PARAMETERS", ",\n".join(lines)).replace("//@RULES\n", _rules())


def _rules() -> str:
    """Numbers of the rules, and the function that tells their sentences."""
    longest = max(len(sentence) for sentence in RULES.values())
    lines = [f"  localparam [7:0] {rule} = {number};" for number, rule in enumerate(RULES, 1)]
    lines += [f"  function [{8 * longest}-1:0] sentence(input [7:0] code);", "    case (code)"]
    lines += [f'      {rule}: sentence = "{sentence}";' for rule, sentence in RULES.items()]
    return "\n".join([*lines, '      default: sentence = "";', "    endcase", "  endfunction", ""])
