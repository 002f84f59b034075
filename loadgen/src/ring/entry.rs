//! The one place where an operation becomes a kernel entry, and a kernel entry a completion.

use io_uring::{cqueue, opcode, squeue, types};

use super::{Completion, Errno, Handle, Op, OpKind, RecvBuffer};

/// The group of the provided receive buffers.
pub(super) const BUFFER_GROUP: u16 = 0;

/// `op 8 | generation 24 | slot 32`.
pub(super) fn user_data(kind: OpKind, handle: Handle) -> u64 {
    (kind as u64) << 56 | u64::from(handle.generation) << 32 | u64::from(handle.slot)
}

/// The inverse of [`user_data`]; `None` for a number that no operation has.
pub(super) fn from_user_data(data: u64) -> Option<(OpKind, Handle)> {
    let kind = match data >> 56 {
        1 => OpKind::Connect,
        2 => OpKind::Send,
        3 => OpKind::Receive,
        4 => OpKind::Cancel,
        5 => OpKind::Finish,
        6 => OpKind::Close,
        _ => return None,
    };
    let generation = (data >> 32) as u32 & (super::GENERATIONS - 1);
    Some((kind, Handle { slot: data as u32, generation }))
}

/// What an entry points at; must stay in place until the kernel has taken the entry (an address)
/// or completed it (bytes).
pub(super) struct Pointers {
    pub address: *const libc_sockaddr,
    pub address_len: u32,
    pub bytes: *const u8,
}

pub(super) use nix::libc::sockaddr as libc_sockaddr;

/// Builds the kernel entry of an operation.
pub(super) fn entry(handle: Handle, op: Op, pointers: &Pointers) -> squeue::Entry {
    let fd = types::Fixed(handle.slot);
    let entry = match op {
        Op::Connect(_) => opcode::Connect::new(fd, pointers.address, pointers.address_len).build(),
        Op::Send { from, to, .. } => {
            opcode::Send::new(fd, pointers.bytes, to - from).flags(nix::libc::MSG_NOSIGNAL).build()
        }
        Op::Receive => opcode::RecvMulti::new(fd, BUFFER_GROUP).build(),
        Op::Cancel(kind) => opcode::AsyncCancel::new(user_data(kind, handle)).build(),
        Op::Finish => opcode::Shutdown::new(fd, nix::libc::SHUT_WR).build(),
        Op::Close => opcode::Close::new(fd).build(),
    };
    entry.user_data(user_data(op.kind(), handle))
}

/// Builds the entry of a send that says nothing if it succeeds. It is through, or has failed, when
/// the kernel has taken it from the queue: `MSG_DONTWAIT` lets it wait for nothing, and
/// `MSG_WAITALL` makes a short one a failure, whose completion has the bytes that were taken, or
/// EAGAIN.
pub(super) fn quiet_send(handle: Handle, bytes: *const u8, len: u32) -> squeue::Entry {
    let flags = nix::libc::MSG_NOSIGNAL | nix::libc::MSG_DONTWAIT | nix::libc::MSG_WAITALL;
    opcode::Send::new(types::Fixed(handle.slot), bytes, len)
        .flags(flags)
        .build()
        .flags(squeue::Flags::SKIP_SUCCESS)
        .user_data(user_data(OpKind::Send, handle))
}

/// What stands for the operation in the names of alarms, which belong to no slot.
const ALARM: u64 = 7;

/// Builds the entry of a completion at an absolute time on CLOCK_MONOTONIC.
pub(super) fn alarm(number: usize, at: *const types::Timespec) -> squeue::Entry {
    let flags = types::TimeoutFlags::ABS;
    opcode::Timeout::new(at).flags(flags).build().user_data(ALARM << 56 | number as u64)
}

/// Which alarm a completion is of, if it is of one.
pub(super) fn alarm_number(data: u64) -> Option<usize> {
    (data >> 56 == ALARM).then_some(data as u32 as usize)
}

/// Reads a kernel completion; `None` for one that belongs to no operation of ours.
pub(super) fn completion(cqe: &cqueue::Entry) -> Option<Completion> {
    let (kind, handle) = from_user_data(cqe.user_data())?;
    let result = match cqe.result() {
        n if n >= 0 => Ok(n as u32),
        n => Err(Errno(-n)),
    };
    Some(Completion {
        handle,
        kind,
        result,
        more: cqueue::more(cqe.flags()),
        buffer: cqueue::buffer_select(cqe.flags()).map(RecvBuffer),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_round_trips_at_the_edges() {
        let kinds = [
            OpKind::Connect,
            OpKind::Send,
            OpKind::Receive,
            OpKind::Cancel,
            OpKind::Finish,
            OpKind::Close,
        ];
        for kind in kinds {
            for slot in [0, 1, u32::MAX] {
                for generation in [0, 1, super::super::GENERATIONS - 1] {
                    let handle = Handle { slot, generation };
                    assert_eq!(from_user_data(user_data(kind, handle)), Some((kind, handle)));
                }
            }
        }
        assert_eq!(from_user_data(0), None);
        assert_eq!(from_user_data(ALARM << 56), None);
        assert_eq!((alarm_number(ALARM << 56 | 3), alarm_number(1 << 56)), (Some(3), None));
        assert_eq!(from_user_data(u64::MAX), None);
    }
}
