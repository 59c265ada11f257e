//! An assembler for the few eBPF instructions our programs use. Knows no program and no kernel structure.
//!
//! Encoding: include/uapi/linux/bpf.h `struct bpf_insn`, RFC 9669.

use std::collections::BTreeMap;

/// One encoded instruction, as the kernel takes it.
pub type Insn = [u8; 8];

/// A register; R0 is a call's result, R1-R5 its arguments, R6-R9 survive it, R10 is the frame pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(u8);

pub const R0: Reg = Reg(0);
pub const R1: Reg = Reg(1);
pub const R2: Reg = Reg(2);
pub const R3: Reg = Reg(3);
pub const R4: Reg = Reg(4);
pub const R6: Reg = Reg(6);
pub const R7: Reg = Reg(7);
pub const R8: Reg = Reg(8);
pub const R9: Reg = Reg(9);
pub const R10: Reg = Reg(10);

/// Width of a load or store.
#[derive(Clone, Copy, Debug)]
pub enum Size {
    Half,
    Word,
    Double,
}

/// Helper functions (include/uapi/linux/bpf.h, `___BPF_FUNC_MAPPER`).
#[derive(Clone, Copy, Debug)]
pub enum Helper {
    MapLookup = 1,
    KtimeNs = 5,
    ProbeReadKernel = 113,
    RingbufOutput = 130,
}

/// A place to jump to, named by the program.
pub type Label = &'static str;

/// Instructions under construction. Jumps go to labels, which may be set later.
#[derive(Debug, Default)]
pub struct Assembler {
    insns: Vec<Insn>,
    labels: BTreeMap<Label, usize>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// Names the next instruction.
    pub fn label(&mut self, label: Label) {
        self.labels.insert(label, self.insns.len());
    }

    /// `dst = src`
    pub fn mov(&mut self, dst: Reg, src: Reg) {
        self.push(0xbf, (dst, src), 0, 0);
    }

    /// `dst = imm`, sign-extended
    pub fn mov_imm(&mut self, dst: Reg, imm: i32) {
        self.push(0xb7, (dst, R0), 0, imm);
    }

    /// `dst += src`
    pub fn add(&mut self, dst: Reg, src: Reg) {
        self.push(0x0f, (dst, src), 0, 0);
    }

    /// `dst += imm`
    pub fn add_imm(&mut self, dst: Reg, imm: i32) {
        self.push(0x07, (dst, R0), 0, imm);
    }

    /// `dst -= src`
    pub fn sub(&mut self, dst: Reg, src: Reg) {
        self.push(0x1f, (dst, src), 0, 0);
    }

    /// `dst &= imm`, sign-extended
    pub fn and_imm(&mut self, dst: Reg, imm: i32) {
        self.push(0x57, (dst, R0), 0, imm);
    }

    /// `dst = *(size *)(src + off)`
    pub fn load(&mut self, size: Size, dst: Reg, src: Reg, off: i16) {
        self.push(0x61 | width(size), (dst, src), off, 0);
    }

    /// `*(size *)(dst + off) = src`
    pub fn store(&mut self, size: Size, dst: Reg, off: i16, src: Reg) {
        self.push(0x63 | width(size), (dst, src), off, 0);
    }

    /// `*(size *)(dst + off) = imm`
    pub fn store_imm(&mut self, size: Size, dst: Reg, off: i16, imm: i32) {
        self.push(0x62 | width(size), (dst, R0), off, imm);
    }

    /// `dst = the map behind a descriptor`: the loader replaces it by the map's address.
    pub fn map(&mut self, dst: Reg, fd: i32) {
        const BPF_PSEUDO_MAP_FD: Reg = R1;
        self.push(0x18, (dst, BPF_PSEUDO_MAP_FD), 0, fd);
        self.push(0, (R0, R0), 0, 0);
    }

    /// Calls a helper; R0-R5 are lost.
    pub fn call(&mut self, helper: Helper) {
        self.push(0x85, (R0, R0), 0, helper as i32);
    }

    pub fn jump(&mut self, to: Label) {
        self.jump_insn(0x05, (R0, R0), 0, to);
    }

    /// Jumps if `dst == imm` (64 bits, sign-extended)
    pub fn jump_eq(&mut self, dst: Reg, imm: i32, to: Label) {
        self.jump_insn(0x15, (dst, R0), imm, to);
    }

    /// Jumps if `dst != imm` (64 bits, sign-extended)
    pub fn jump_ne(&mut self, dst: Reg, imm: i32, to: Label) {
        self.jump_insn(0x55, (dst, R0), imm, to);
    }

    /// Jumps if `dst > src`, unsigned
    pub fn jump_gt(&mut self, dst: Reg, src: Reg, to: Label) {
        self.jump_insn(0x2d, (dst, src), 0, to);
    }

    /// Jumps if the lower half of `dst` equals `imm`
    pub fn jump_eq32(&mut self, dst: Reg, imm: i32, to: Label) {
        self.jump_insn(0x16, (dst, R0), imm, to);
    }

    /// Returns `R0`.
    pub fn exit(&mut self) {
        self.push(0x95, (R0, R0), 0, 0);
    }

    /// The finished program. Panics on a jump to a label nobody set or one out of reach: a fault of the program's
    /// author, met by the first test.
    pub fn finish(mut self) -> Vec<Insn> {
        for (at, label) in self.jumps {
            let target = self.labels.get(label).unwrap_or_else(|| panic!("label {label} is not set"));
            let distance = i16::try_from(target.wrapping_sub(at + 1).cast_signed())
                .unwrap_or_else(|_| panic!("label {label} is out of reach"));
            self.insns[at][2..4].copy_from_slice(&distance.to_ne_bytes());
        }
        self.insns
    }

    fn jump_insn(&mut self, code: u8, registers: (Reg, Reg), imm: i32, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(code, registers, 0, imm);
    }

    fn push(&mut self, code: u8, (dst, src): (Reg, Reg), off: i16, imm: i32) {
        // The two register fields are bit-fields, which follow the machine's byte order.
        let registers = if cfg!(target_endian = "big") { dst.0 << 4 | src.0 } else { src.0 << 4 | dst.0 };
        let mut insn = [code, registers, 0, 0, 0, 0, 0, 0];
        insn[2..4].copy_from_slice(&off.to_ne_bytes());
        insn[4..8].copy_from_slice(&imm.to_ne_bytes());
        self.insns.push(insn);
    }
}

fn width(size: Size) -> u8 {
    match size {
        Size::Word => 0x00,
        Size::Half => 0x08,
        Size::Double => 0x18,
    }
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    fn check(write: impl FnOnce(&mut Assembler), expected: &[Insn]) {
        let mut asm = Assembler::default();
        write(&mut asm);
        assert_eq!(asm.finish(), expected);
    }

    #[test]
    fn encodes_as_the_kernel_reads() {
        check(|a| a.mov(R6, R1), &[[0xbf, 0x16, 0, 0, 0, 0, 0, 0]]);
        check(|a| a.mov_imm(R0, -1), &[[0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]]);
        check(|a| a.load(Size::Double, R7, R6, 8), &[[0x79, 0x67, 8, 0, 0, 0, 0, 0]]);
        check(|a| a.load(Size::Half, R1, R9, 2), &[[0x69, 0x91, 2, 0, 0, 0, 0, 0]]);
        check(|a| a.store(Size::Word, R10, -4, R1), &[[0x63, 0x1a, 0xfc, 0xff, 0, 0, 0, 0]]);
        check(|a| a.store_imm(Size::Word, R10, -4, 7), &[[0x62, 0x0a, 0xfc, 0xff, 7, 0, 0, 0]]);
        check(|a| a.map(R1, 5), &[[0x18, 0x11, 0, 0, 5, 0, 0, 0], [0; 8]]);
        check(|a| a.call(Helper::ProbeReadKernel), &[[0x85, 0, 0, 0, 113, 0, 0, 0]]);
    }

    #[test]
    fn jumps_count_from_the_next_instruction() {
        let write = |a: &mut Assembler| {
            a.label("again");
            a.jump_eq(R1, 0, "out");
            a.jump("again");
            a.label("out");
            a.exit();
        };
        let expected =
            [[0x15, 1, 1, 0, 0, 0, 0, 0], [0x05, 0, 0xfe, 0xff, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
        check(write, &expected);
    }

    #[test]
    #[should_panic(expected = "label nowhere is not set")]
    fn a_missing_label_is_named() {
        check(|a| a.jump("nowhere"), &[]);
    }
}
