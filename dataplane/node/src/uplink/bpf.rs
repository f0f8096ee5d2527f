//! A small assembler for classic BPF (`linux/filter.h`), the language of SO_ATTACH_FILTER.
//!
//! Conditional jumps reach 255 instructions only, so that each one is written as a test that skips one unconditional jump, whose
//! reach has no limit. Jumps go forward, as the kernel demands.

use libc::{
    BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX,
    BPF_MSH, BPF_RET, BPF_W, SKF_AD_IFINDEX, SKF_AD_OFF, sock_filter,
};
use socket2::{SockFilter, Socket};
use std::io;
use wire::tcp::flag;

/// Has the kernel run `program` on what it would hand to `socket`, in place of an earlier one.
///
/// Errors: `ENOMEM` where sockets may not have so much memory (`net.core.optmem_max`).
pub(crate) fn attach(socket: &Socket, program: &[sock_filter]) -> io::Result<()> {
    let program: Vec<_> = program.iter().map(|step| SockFilter::new(step.code, step.jt, step.jf, step.k)).collect();
    socket.attach_filter(&program)
}

/// Most instructions that the kernel takes (`BPF_MAXINSNS`).
pub(crate) const INSTRUCTIONS_MAX: usize = 4096;

/// Index of the interface `lo`, the first of every network namespace.
const LOOPBACK_INDEX: u32 = 1;

/// A place in the program that is known by its name before it is known by its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// What a condition asks about the accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// It is this.
    Is(u32),
    /// It is at least this.
    AtLeast(u32),
    /// It is more than this.
    Above(u32),
    /// It has one of these bits.
    Has(u32),
}

/// A program as it is written.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    code: Vec<sock_filter>,
    /// Position of each label.
    labels: Vec<Option<usize>>,
    /// Jumps whose distance is not known yet.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// A label without a position.
    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Gives `label` the position of the next instruction.
    pub(crate) fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    /// Loads the byte at `offset` of the packet.
    pub(crate) fn load_byte(&mut self, offset: u32) {
        self.push(BPF_LD | BPF_B | BPF_ABS, offset);
    }

    /// Loads the 16-bit field at `offset`.
    pub(crate) fn load_half(&mut self, offset: u32) {
        self.push(BPF_LD | BPF_H | BPF_ABS, offset);
    }

    /// Loads the 32-bit field at `offset`.
    pub(crate) fn load_word(&mut self, offset: u32) {
        self.push(BPF_LD | BPF_W | BPF_ABS, offset);
    }

    /// Loads what the kernel knows of the packet besides its bytes (`SKF_AD_*`).
    pub(crate) fn load_ancillary(&mut self, which: libc::c_int) {
        self.load_word((SKF_AD_OFF + which) as u32);
    }

    /// Sets the index register to the length of the IPv4 header at `offset`.
    pub(crate) fn index_ipv4_header(&mut self, offset: u32) {
        self.push(BPF_LDX | BPF_B | BPF_MSH, offset);
    }

    /// Loads the byte at `offset` behind the index register.
    pub(crate) fn load_byte_indexed(&mut self, offset: u32) {
        self.push(BPF_LD | BPF_B | BPF_IND, offset);
    }

    /// Loads the 16-bit field at `offset` behind the index register.
    pub(crate) fn load_half_indexed(&mut self, offset: u32) {
        self.push(BPF_LD | BPF_H | BPF_IND, offset);
    }

    /// Goes on at `label` if the accumulator passes the test.
    pub(crate) fn jump_if(&mut self, test: Test, label: Label) {
        self.test(test, 0, 1);
        self.jump(label);
    }

    /// Goes on at `label` if the accumulator does not pass the test.
    pub(crate) fn jump_unless(&mut self, test: Test, label: Label) {
        self.test(test, 1, 0);
        self.jump(label);
    }

    /// Goes on at `label`.
    pub(crate) fn jump(&mut self, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(BPF_JMP | BPF_JA, 0);
    }

    /// Ends with so many bytes of the packet taken; 0 drops it.
    pub(crate) fn finish_with(&mut self, bytes: u32) {
        self.push(BPF_RET | BPF_K, bytes);
    }

    /// The finished program.
    ///
    /// # Panics
    /// If a jump leads to a label that has no position, or back.
    pub(crate) fn assemble(mut self) -> Vec<sock_filter> {
        for (at, label) in self.jumps {
            let target = self.labels[label.0].expect("every label that is jumped to has a position");
            let distance = target.checked_sub(at + 1).expect("jumps go forward");
            self.code[at].k = distance as u32;
        }
        self.code
    }

    fn test(&mut self, test: Test, jt: u8, jf: u8) {
        let (code, k) = match test {
            Test::Is(value) => (BPF_JEQ, value),
            Test::AtLeast(value) => (BPF_JGE, value),
            Test::Above(value) => (BPF_JGT, value),
            Test::Has(bits) => (BPF_JSET, bits),
        };
        self.code.push(sock_filter { code: (BPF_JMP | code | BPF_K) as u16, jt, jf, k });
    }

    fn push(&mut self, code: u32, k: u32) {
        self.code.push(sock_filter { code: code as u16, jt: 0, jf: 0, k });
    }
}

/// Takes nothing: for sockets that only hold a port.
pub(crate) fn take_nothing() -> Vec<sock_filter> {
    let mut program = Assembler::default();
    program.finish_with(0);
    program.assemble()
}

/// Takes the first segments of TCP connections that a process of this machine opens to one of its own addresses: for a raw
/// socket, which sees the IP header of IPv4 but not that of IPv6 (raw(7), ipv6(7)).
pub(crate) fn take_loopback_syns(ipv4: bool) -> Vec<sock_filter> {
    const FLAGS: u32 = 13;
    let mut program = Assembler::default();
    let other = program.label();
    program.load_ancillary(SKF_AD_IFINDEX);
    program.jump_unless(Test::Is(LOOPBACK_INDEX), other);
    if ipv4 {
        program.index_ipv4_header(0);
        program.load_byte_indexed(FLAGS);
    } else {
        program.load_byte(FLAGS);
    }
    program.jump_if(Test::Has(u32::from(flag::ACK | flag::RST)), other);
    program.jump_unless(Test::Has(u32::from(flag::SYN)), other);
    program.finish_with(u32::MAX);
    program.place(other);
    program.finish_with(0);
    program.assemble()
}

/// Takes what a process of this machine sends to one of its own addresses, nothing from outside.
pub(crate) fn take_loopback() -> Vec<sock_filter> {
    let mut program = Assembler::default();
    let outside = program.label();
    program.load_ancillary(SKF_AD_IFINDEX);
    program.jump_unless(Test::Is(LOOPBACK_INDEX), outside);
    program.finish_with(u32::MAX);
    program.place(outside);
    program.finish_with(0);
    program.assemble()
}
