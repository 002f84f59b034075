//! How requests and events lie in a payload: four integers of 0 to 8 bytes each, whose lengths
//! stand in 12 bits up front. No field needs a loop or a branch, so a record is read in a few
//! nanoseconds in safe code.
//!
//! Every access goes through a window of [`WINDOW_BYTES`] whose offsets are masked to 6 bits: the
//! compiler then proves the bounds and drops the checks.

use crate::names::{EventKind, Outcome};
use crate::record::{Event, Request};

/// Bytes that must follow the start of a record when it is read or written in place. A record has
/// at most 42; loads and stores are 8 bytes wide and may touch what comes after it.
pub(crate) const WINDOW_BYTES: usize = 72;

/// The fewest bytes of a request: the head alone.
pub(crate) const REQUEST_BYTES_MIN: usize = HEAD_BYTES;

/// The fewest bytes of an event.
pub(crate) const EVENT_BYTES_MIN: usize = EVENT_HEAD_BYTES;

const HEAD_BYTES: usize = 4;
const EXTENSION_BYTES: usize = 6;
const EVENT_HEAD_BYTES: usize = 6;

const OP_SHIFT: u32 = 12;
const TARGET_SHIFT: u32 = 20;
const TARGET_LOW_BITS: u32 = 11;
const TARGET_LOW_MASK: u32 = (1 << TARGET_LOW_BITS) - 1;
const EXTENDED: u32 = 1 << 31;

/// Bytes of a field by its length code.
const LENGTHS: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 8];
/// The bits of an 8-byte load that belong to the field.
const MASKS: [u64; 8] =
    [0, 0xFF, 0xFFFF, 0xFF_FFFF, 0xFFFF_FFFF, 0xFF_FFFF_FFFF, 0xFFFF_FFFF_FFFF, u64::MAX];

pub(crate) type Window = [u8; WINDOW_BYTES];

/// Signed to unsigned with small magnitudes first: 0, -1, 1, -2...
#[inline(always)]
const fn zigzag(value: u64) -> u64 {
    (value << 1) ^ ((value as i64 >> 63) as u64)
}

#[inline(always)]
const fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

#[inline(always)]
fn store(window: &mut Window, at: usize, value: u64) {
    let at = at & 63;
    window[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[inline(always)]
fn load(window: &Window, at: usize) -> u64 {
    let at = at & 63;
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&window[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// Writes the four integers from `at` on; returns their codes and where they end.
#[inline(always)]
fn put_fields(window: &mut Window, mut at: usize, fields: [u64; 4]) -> (u32, usize) {
    let mut codes = 0;
    for (index, field) in fields.into_iter().enumerate() {
        let bytes = (71 - field.leading_zeros()) / 8;
        let code = bytes.min(7);
        store(window, at, field);
        at += usize::from(LENGTHS[code as usize & 7]);
        codes |= code << (3 * index);
    }
    (codes, at)
}

/// Reads the four integers from `at` on; returns them and where they end.
#[inline(always)]
fn get_fields(window: &Window, mut at: usize, codes: u32) -> ([u64; 4], usize) {
    let mut fields = [0; 4];
    for (index, field) in fields.iter_mut().enumerate() {
        let code = (codes >> (3 * index)) as usize & 7;
        *field = load(window, at) & MASKS[code];
        at += usize::from(LENGTHS[code]);
    }
    (fields, at)
}

/// Writes one request; returns its bytes. `previous_done_ns` is the base of the delta.
#[inline(always)]
pub(crate) fn put_request(window: &mut Window, request: &Request, previous_done_ns: u64) -> usize {
    let detail = if request.outcome.is_ok() { 0 } else { request.detail };
    let target_high = request.target >> TARGET_LOW_BITS;
    let extended = !request.outcome.is_ok() || target_high != 0;
    let extension =
        request.outcome as u64 | u64::from(target_high) << 8 | u64::from(detail as u32) << 16;
    store(window, HEAD_BYTES, extension);
    let at = if extended { HEAD_BYTES + EXTENSION_BYTES } else { HEAD_BYTES };
    let fields = [
        zigzag(request.done_ns.wrapping_sub(previous_done_ns)),
        request.sent_ns.wrapping_sub(request.intended_ns),
        request.first_byte_ns.wrapping_sub(request.sent_ns),
        request.done_ns.wrapping_sub(request.first_byte_ns),
    ];
    let (codes, end) = put_fields(window, at, fields);
    let head = codes
        | u32::from(request.op) << OP_SHIFT
        | (u32::from(request.target) & TARGET_LOW_MASK) << TARGET_SHIFT
        | u32::from(extended) << 31;
    window[..4].copy_from_slice(&head.to_le_bytes());
    end
}

/// Reads one request; returns it and its bytes. `None` if its outcome is no known one.
#[inline(always)]
pub(crate) fn get_request(window: &Window, previous_done_ns: u64) -> Option<(Request, usize)> {
    let first = load(window, 0);
    let head = first as u32;
    let extended = head & EXTENDED != 0;
    let extension = if extended { load(window, HEAD_BYTES) } else { 0 };
    let at = if extended { HEAD_BYTES + EXTENSION_BYTES } else { HEAD_BYTES };
    let ([done, slip, wait, tail], end) = get_fields(window, at, head);
    let outcome = *Outcome::ALL.get(extension as usize & 0xFF)?;
    let done_ns = previous_done_ns.wrapping_add(unzigzag(done));
    let first_byte_ns = done_ns.wrapping_sub(tail);
    let sent_ns = first_byte_ns.wrapping_sub(wait);
    let target_high = ((extension >> 8) as u32 & 0x1F) << TARGET_LOW_BITS;
    let request = Request {
        intended_ns: sent_ns.wrapping_sub(slip),
        sent_ns,
        first_byte_ns,
        done_ns,
        outcome,
        detail: (extension >> 16) as u32 as i32,
        target: ((head >> TARGET_SHIFT) & TARGET_LOW_MASK | target_high) as u16,
        op: (head >> OP_SHIFT) as u8,
    };
    Some((request, end))
}

/// Writes one event; returns its bytes. `previous_at_ns` is the base of the delta.
#[inline(always)]
pub(crate) fn put_event(window: &mut Window, event: &Event, previous_at_ns: u64) -> usize {
    let fields = [
        zigzag(event.at_ns.wrapping_sub(previous_at_ns)),
        u64::from(event.session),
        event.value,
        zigzag(i64::from(event.detail) as u64),
    ];
    let (codes, end) = put_fields(window, EVENT_HEAD_BYTES, fields);
    let head = [event.kind as u8, event.outcome as u8];
    window[..2].copy_from_slice(&head);
    window[2..4].copy_from_slice(&event.target.to_le_bytes());
    window[4..6].copy_from_slice(&(codes as u16).to_le_bytes());
    end
}

/// Reads one event; returns it and its bytes. `None` if a number in it names nothing.
#[inline(always)]
pub(crate) fn get_event(window: &Window, previous_at_ns: u64) -> Option<(Event, usize)> {
    let head = load(window, 0);
    let ([at, session, value, detail], end) =
        get_fields(window, EVENT_HEAD_BYTES, (head >> 32) as u32);
    let event = Event {
        at_ns: previous_at_ns.wrapping_add(unzigzag(at)),
        kind: EventKind::from_u8(head as u8)?,
        session: u32::try_from(session).ok()?,
        target: (head >> 16) as u16,
        outcome: Outcome::from_u8((head >> 8) as u8)?,
        detail: i32::try_from(unzigzag(detail) as i64).ok()?,
        value,
    };
    Some((event, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_record_fits_the_window() {
        let request = Request {
            intended_ns: u64::MAX / 3,
            sent_ns: 0,
            first_byte_ns: u64::MAX / 2,
            done_ns: 0,
            outcome: Outcome::Other,
            detail: i32::MIN,
            target: u16::MAX,
            op: u8::MAX,
        };
        let mut window = [0xAA; WINDOW_BYTES];
        let bytes = put_request(&mut window, &request, u64::MAX / 2);
        assert_eq!(bytes, 42);
        assert_eq!(get_request(&window, u64::MAX / 2), Some((request, 42)));
    }

    #[test]
    fn every_length_of_a_field_reads_back() {
        for bits in 0..=64_u32 {
            let field = if bits == 0 { 0 } else { u64::MAX >> (64 - bits) };
            let mut window = [0xAA; WINDOW_BYTES];
            let (codes, end) = put_fields(&mut window, 10, [field, 1, field, 0]);
            assert_eq!(get_fields(&window, 10, codes), ([field, 1, field, 0], end), "{bits} bits");
        }
    }

    #[test]
    fn zigzag_keeps_small_magnitudes_small() {
        assert_eq!([0, u64::MAX, 1, u64::MAX - 1].map(zigzag), [0, 1, 2, 3]);
        for value in [0, 1, u64::MAX, i64::MAX as u64, i64::MIN as u64] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
    }
}
