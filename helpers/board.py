"""Generated C at work: on this machine as a library, and on an emulated Cortex-M4.

The emulator (Unicorn, made of QEMU) does what each instruction does; it knows nothing of a chip's
clock or memory, so what is counted are instructions, not cycles.
"""

from __future__ import annotations

import ctypes
import io
from collections.abc import Sequence

import numpy as np

from helpers.arguments import one_of
from helpers.c_model import CModel
from helpers.toolchain import FOLDER, KERNELS, firmware, host_library, missing

FLASH, FLASH_BYTES = 0x08000000, 2 << 20  # as in helpers/c/board.ld
RAM, RAM_BYTES = 0x20000000, 640 << 10
SYSTEM, SYSTEM_BYTES = 0xE0000000, 1 << 20  # registers of the core
COUNTER = 0x1004  # of them: DWT_CYCCNT
TRANSLATED = 32 << 20  # bytes for translated code; the emulator would reserve gigabytes
PAINT = b"\xa5"  # what unused memory holds
BREAKPOINT = b"\x00\xbe"  # bkpt 0
NOWHERE = 0xFFFFFFFE
CPUS = ("cortex_m3", "cortex_m4")


class HostModel:
    """A generated model, compiled for this machine.

    kernels: a name in toolchain.KERNELS, or files of helpers/c and of the model's sources.
    flags, errors: as toolchain.host_library.
    """

    def __init__(
        self,
        model: CModel,
        kernels: str | Sequence[str] = "plain",
        flags: Sequence[str] = (),
    ):
        self.model = model
        self._library = host_library(model.sources, files(kernels), flags)
        arena = (ctypes.c_int8 * model.arena_bytes).in_dll(self._library, "model_arena")
        self._arena = np.frombuffer(arena, np.int8)

    def run(self, images: np.ndarray) -> np.ndarray:
        """int8 [N, ...] -> int8 [N, outputs], one image after the other."""
        rows = self.model.rows(images)
        given, result = self.model.places
        logits = np.empty((len(rows), result.stop - result.start), np.int8)
        for row, found in zip(rows, logits, strict=True):
            self._arena[given] = row
            self._library.model_run()
            found[:] = self._arena[result]
        return logits


class Board:
    """A generated model as the program of an emulated Cortex-M4, or cpu "cortex_m3".

    kernels, optimize: as HostModel and toolchain.firmware. code, constants, variables: bytes of the
    program, of its constants (both in flash) and of its variables (in RAM, the arena among them).
    After run: instructions, of each layer for the last image, and stack_bytes, the most in use.
    Raises RuntimeError where toolchain.missing() says so or if the program goes astray.
    """

    def __init__(
        self,
        model: CModel,
        kernels: str | Sequence[str] = "plain",
        optimize: str = "-O2",
        cpu: str = "cortex_m4",
    ):
        if missing():
            raise RuntimeError(missing())
        one_of("cpu", cpu, CPUS)
        import unicorn
        from elftools.elf.elffile import ELFFile
        from unicorn import arm_const

        self.model = model
        program = firmware(model.sources, files(kernels), optimize=optimize, cpu=cpu)
        elf = ELFFile(io.BytesIO(program))
        sizes = {section.name: section["sh_size"] for section in elf.iter_sections()}
        names = elf.get_section_by_name(".symtab").iter_symbols()
        self._addresses = {name.name: name["st_value"] for name in names}
        self.code = sizes[".vectors"] + sizes[".text"]
        self.constants = sizes[".rodata"] + sizes.get(".data", 0)
        self.variables = sizes[".bss"] + sizes.get(".data", 0)
        self._uc = uc = unicorn.Uc(
            unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS
        )
        uc.ctl_set_tcg_buffer_size(TRANSLATED)
        uc.ctl_set_cpu_model(getattr(arm_const, f"UC_CPU_ARM_{cpu.upper()}"))
        uc.mem_map(FLASH, FLASH_BYTES, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        uc.mem_map(RAM, RAM_BYTES, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        uc.mem_write(RAM, PAINT * RAM_BYTES)
        flash = bytearray(FLASH_BYTES)
        for piece in elf.iter_segments("PT_LOAD"):
            place = piece["p_paddr"] - FLASH
            if piece["p_filesz"]:
                flash[place : place + piece["p_filesz"]] = piece.data()
        uc.mem_write(FLASH, bytes(flash))
        self._count_with(flash)
        stack, start = np.frombuffer(flash, "<u4", 2).tolist()
        self._stack = range(self._addresses["bss_end"], stack)
        self._go(start, stack)

    def _count_with(self, flash: bytearray) -> None:
        """Call count.c at each block of instructions, and let the core's counter tell its sum."""
        import unicorn
        from unicorn.unicorn_py3.unicorn import uclib

        source = (FOLDER / "count.c").read_text("utf-8")
        self._counter = library = host_library({"count.c": source}, ())
        self._flash = (ctypes.c_uint8 * len(flash)).from_buffer(flash)
        ctypes.c_void_p.in_dll(library, "code").value = ctypes.addressof(self._flash)
        ctypes.c_uint64.in_dll(library, "code_start").value = FLASH
        self._total = ctypes.c_uint64.in_dll(library, "instructions")
        hook, function = ctypes.c_size_t(), ctypes.cast(library.on_block, ctypes.c_void_p)
        everywhere = ctypes.c_uint64(1), ctypes.c_uint64(0)
        kind = unicorn.UC_HOOK_BLOCK
        status = uclib.uc_hook_add(
            self._uc._uch, ctypes.byref(hook), kind, function, None, *everywhere
        )
        if status != unicorn.UC_ERR_OK:
            raise RuntimeError(f"the emulator takes no hook ({status}): install unicorn 2.1")

        def read(uc, offset, size, _):
            return self._total.value & 0xFFFFFFFF if offset == COUNTER else 0

        self._uc.mmio_map(SYSTEM, SYSTEM_BYTES, read, None, lambda *_: None, None)

    def _go(self, address: int, stack: int | None = None) -> None:
        """Run from an address to the next breakpoint."""
        import unicorn
        from unicorn.arm_const import UC_ARM_REG_PC, UC_ARM_REG_SP

        if stack is not None:
            self._uc.reg_write(UC_ARM_REG_SP, stack)
        try:
            self._uc.emu_start(address | 1, NOWHERE)
        except unicorn.UcError as error:
            self._pc = self._uc.reg_read(UC_ARM_REG_PC)
            if not FLASH <= self._pc < FLASH + FLASH_BYTES - 2 or self._at(self._pc) != BREAKPOINT:
                raise RuntimeError(f"the program failed at {self._pc:#x}: {error}") from error

    def _at(self, address: int, size: int = 2) -> bytes:
        return bytes(self._uc.mem_read(address, size))

    def run(self, images: np.ndarray) -> np.ndarray:
        """int8 [N, ...] -> int8 [N, outputs], one image after the other."""
        rows = self.model.rows(images)
        given, result = self.model.places
        arena, size = self._addresses["model_arena"], result.stop - result.start
        logits = np.empty((len(rows), size), np.int8)
        for row, found in zip(rows, logits, strict=True):
            self._uc.mem_write(arena + given.start, row.tobytes())
            self._go(self._pc + 2)
            found[:] = np.frombuffer(self._at(arena + result.start, size), np.int8)
        return logits

    @property
    def instructions(self) -> np.ndarray:
        """int64 [layers]: what each took for the last image, to within some fifty."""
        counts = self._at(self._addresses["cycles"], 4 * len(self.model.layers))
        return np.frombuffer(counts, "<u4").astype(np.int64)

    @property
    def stack_bytes(self) -> int:
        """The most that the stack has held since the start: what is no longer painted."""
        below = self._at(self._stack.start, len(self._stack))
        return len(below.lstrip(PAINT))


def files(kernels: str | Sequence[str]) -> Sequence[str]:
    """The files of a set of kernels."""
    if isinstance(kernels, str):
        if kernels not in KERNELS:
            raise ValueError(f"no kernels {kernels!r}: there are {', '.join(KERNELS)}")
        return KERNELS[kernels]
    return kernels
