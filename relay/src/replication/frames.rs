//! The frames of a streaming connection, cut out of what the socket gave (PostgreSQL, "Message Formats" and "Streaming
//! Replication Protocol").
//!
//! Nothing is copied: a message is a view into the chunk that it was read with, which stays in memory as long as one
//! view of it does.

use bytes::{Buf, Bytes, BytesMut};
use pgwire_replication::PgWireError;
use pgwire_replication::protocol::messages::parse_error_response;

use walpost_core::lsn::Lsn;

/// What is read at a time at the most, and so what a view may keep in memory.
const CHUNK_BYTES: usize = 256 << 10;

/// Room that is made before a read: less would make for many small reads.
const READ_MIN: usize = 64 << 10;

/// A field of Postgres has a gigabyte at most; whoever announces more is not Postgres.
const FRAME_MAX: usize = (1 << 30) + (1 << 20);

/// The type byte and the length.
const HEADER: usize = 5;

/// In front of a message of the plugin: the kind, two positions and the server's clock.
const DATA_HEADER: usize = 25;

/// The kind, a position, the server's clock, and whether an answer is wanted.
const KEEPALIVE: usize = 18;

/// What the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A message of the output plugin.
    Data(Bytes),
    /// Everything below this position was sent; whether an answer is wanted.
    Keepalive(Lsn, bool),
    /// The server ends the stream in good order.
    Done,
}

/// Bytes that have come in, and the frames in them.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: BytesMut,
    /// What the frame that begins the buffer still lacks, where that is known.
    lacking: usize,
}

impl Frames {
    /// Where to read into.
    pub fn room(&mut self) -> &mut BytesMut {
        // What a large frame needed is given back.
        if self.buffer.is_empty() && self.buffer.capacity() > 4 * CHUNK_BYTES {
            self.buffer = BytesMut::new();
        }
        if self.buffer.capacity() - self.buffer.len() < self.lacking.max(READ_MIN) {
            self.buffer.reserve(self.lacking.max(CHUNK_BYTES));
        }
        &mut self.buffer
    }

    /// The next frame, once it is whole.
    ///
    /// # Errors
    /// What the server reports, and bytes that are no frame.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, PgWireError> {
        while let Some((kind, body)) = self.whole()? {
            match kind {
                b'd' => return data(body).map(Some),
                b'c' => return Ok(Some(Frame::Done)),
                b'E' => return Err(PgWireError::Server(parse_error_response(&body))),
                // Notices and changed parameters.
                _ => {}
            }
        }
        Ok(None)
    }

    fn whole(&mut self) -> Result<Option<(u8, Bytes)>, PgWireError> {
        self.lacking = 0;
        let Some(&[kind, a, b, c, d]) = self.buffer.first_chunk::<HEADER>() else { return Ok(None) };
        // The length counts itself, and not the type byte.
        let length = 1 + usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX - 1);
        if !(HEADER..=FRAME_MAX).contains(&length) {
            return Err(PgWireError::Protocol(format!("a frame of {length} bytes")));
        }
        if self.buffer.len() < length {
            self.lacking = length - self.buffer.len();
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(length).freeze();
        frame.advance(HEADER);
        Ok(Some((kind, frame)))
    }
}

fn data(mut body: Bytes) -> Result<Frame, PgWireError> {
    match body.first() {
        Some(b'w') if body.len() > DATA_HEADER => {
            body.advance(DATA_HEADER);
            Ok(Frame::Data(body))
        }
        Some(b'k') if body.len() == KEEPALIVE => {
            body.advance(1);
            let wal_end = Lsn(body.get_u64());
            body.advance(8);
            Ok(Frame::Keepalive(wal_end, body.get_u8() != 0))
        }
        _ => Err(PgWireError::Protocol(format!("a message of the stream with {} bytes", body.len()))),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.put_u32(4 + u32::try_from(body.len()).expect("short"));
        bytes.extend_from_slice(body);
        bytes
    }

    fn encoded(given: &Frame) -> Vec<u8> {
        match given {
            Frame::Data(data) => frame(b'd', &[&[b'w'][..], &[7; 24], data].concat()),
            Frame::Keepalive(Lsn(end), asks) => {
                frame(b'd', &[&[b'k'][..], &end.to_be_bytes(), &[7; 8], &[u8::from(*asks)]].concat())
            }
            Frame::Done => frame(b'c', &[]),
        }
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        prop_oneof![
            8 => prop::collection::vec(any::<u8>(), 1..400).prop_map(|data| Frame::Data(data.into())),
            2 => (any::<u64>(), any::<bool>()).prop_map(|(end, asks)| Frame::Keepalive(Lsn(end), asks)),
            1 => Just(Frame::Done),
        ]
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            given in prop::collection::vec(any_frame(), 0..40),
            cuts in prop::collection::vec(1usize..700, 1..60),
        ) {
            let with_notice = |given| [encoded(given), frame(b'N', b"note")].concat();
            let bytes: Vec<u8> = given.iter().flat_map(with_notice).collect();
            let (mut frames, mut found, mut rest) = (Frames::default(), Vec::new(), &bytes[..]);
            for cut in cuts.into_iter().cycle() {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                frames.room().extend_from_slice(now);
                while let Some(frame) = frames.next_frame().expect("valid frames") {
                    found.push(frame);
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, given);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut frames = Frames::default();
            frames.room().extend_from_slice(&bytes);
            while let Ok(Some(_)) = frames.next_frame() {}
        }
    }

    #[test]
    fn a_frame_that_is_too_large_or_too_small_is_refused_before_it_is_read() {
        for length in [0, 3, u32::MAX] {
            let mut frames = Frames::default();
            frames.room().extend_from_slice(&[&[b'd'][..], &length.to_be_bytes()].concat());
            assert!(frames.next_frame().is_err(), "{length}");
        }
    }

    #[test]
    fn room_is_made_for_a_large_frame_at_once() {
        let mut frames = Frames::default();
        frames.room().extend_from_slice(&[&[b'd'][..], &(10u32 << 20).to_be_bytes()].concat());
        assert!(matches!(frames.next_frame(), Ok(None)));
        let room = frames.room();
        assert!(room.capacity() - room.len() >= (10 << 20) - 4, "the length counts itself");
    }

    #[test]
    fn what_a_large_frame_needed_is_given_back() {
        let mut frames = Frames::default();
        frames.room().extend_from_slice(&encoded(&Frame::Data(vec![7; 10 << 20].into())));
        assert!(matches!(frames.next_frame(), Ok(Some(Frame::Data(_)))));
        frames.room().extend_from_slice(&encoded(&Frame::Keepalive(Lsn(1), false)));
        assert!(matches!(frames.next_frame(), Ok(Some(Frame::Keepalive(..)))));
        assert!(frames.room().capacity() <= 4 * CHUNK_BYTES);
    }

    #[test]
    fn the_servers_error_is_told() {
        let mut frames = Frames::default();
        frames.room().extend_from_slice(&frame(b'E', b"SERROR\0C55006\0Mthe slot is active\0\0"));
        let error = frames.next_frame().expect_err("an error").to_string();
        assert!(error.contains("the slot is active") && error.contains("55006"), "{error}");
    }
}
