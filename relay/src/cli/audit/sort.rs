//! Sorts more than memory holds: what fills the buffer is sorted and written behind what was written before, and in the end
//! all of it is merged.
//!
//! Memory is the buffer, whatever is sorted and however much of it is alike; that is why it is this and not partitions by
//! digest, one of which may hold everything, nor several passes, which would read the table and the topics as often. The
//! file has no name: whatever ends the program, nothing of it is left.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// What can be sorted: something of a fixed size.
pub(super) trait Fixed: Ord + Copy {
    /// Bytes of one.
    const BYTES: usize;

    /// Writes it into so many bytes.
    fn write(&self, into: &mut [u8]);

    /// Reads it back.
    fn read(bytes: &[u8]) -> Self;
}

/// A run is read in pieces of so many bytes at least.
const PIECE_BYTES_MIN: usize = 4 << 10;

/// Takes what is to be sorted.
pub(super) struct Sorter<T> {
    folder: PathBuf,
    buffer: Vec<T>,
    buffer_max: usize,
    file: Option<File>,
    /// Bytes of the file.
    written: u64,
    /// Where each run begins and ends.
    runs: Vec<(u64, u64)>,
}

impl<T: Fixed> Sorter<T> {
    /// With a buffer of so many bytes; what does not fit goes to a file in `folder`.
    pub(super) fn new(folder: &Path, bytes: usize) -> Self {
        let buffer_max = (bytes / size_of::<T>()).max(2);
        Self {
            folder: folder.to_owned(),
            buffer: Vec::new(),
            buffer_max,
            file: None,
            written: 0,
            runs: Vec::new(),
        }
    }

    /// Takes one.
    pub(super) fn push(&mut self, item: T) -> io::Result<()> {
        if self.buffer.len() >= self.buffer_max {
            self.spill()?;
        }
        if self.buffer.len() == self.buffer.capacity() {
            // It would double, and be more than was granted.
            let more = self.buffer.len().max(1 << 10).min(self.buffer_max - self.buffer.len());
            self.buffer.reserve_exact(more);
        }
        self.buffer.push(item);
        Ok(())
    }

    /// Bytes that did not fit into memory.
    pub(super) fn spilled(&self) -> u64 {
        self.written
    }

    fn spill(&mut self) -> io::Result<()> {
        self.buffer.sort_unstable();
        if self.file.is_none() {
            self.file = Some(nameless(&self.folder)?);
        }
        let Some(file) = &self.file else { return Ok(()) };
        let start = self.written;
        let mut bytes = vec![0; T::BYTES * (PIECE_BYTES_MIN.max(1 << 20) / T::BYTES)];
        for items in self.buffer.chunks(bytes.len() / T::BYTES) {
            let bytes = &mut bytes[..items.len() * T::BYTES];
            for (item, into) in items.iter().zip(bytes.chunks_exact_mut(T::BYTES)) {
                item.write(into);
            }
            file.write_all_at(bytes, self.written)?;
            self.written += bytes.len() as u64;
        }
        self.buffer.clear();
        self.runs.push((start, self.written));
        Ok(())
    }

    /// All of it, in order.
    pub(super) fn sorted(mut self) -> io::Result<Sorted<T>> {
        if !self.runs.is_empty() && !self.buffer.is_empty() {
            self.spill()?;
        }
        self.buffer.sort_unstable();
        let piece = self.buffer_max * size_of::<T>() / self.runs.len().max(1);
        let piece = piece.clamp(PIECE_BYTES_MIN, 1 << 20) / T::BYTES * T::BYTES;
        if !self.runs.is_empty() {
            // The runs' pieces take its room.
            self.buffer = Vec::new();
        }
        let runs =
            self.runs.iter().map(|(start, end)| Run { at: *start, end: *end, piece: Vec::new(), taken: 0 });
        let mut sorted = Sorted {
            buffer: self.buffer.into_iter(),
            file: self.file,
            runs: runs.collect(),
            piece,
            heap: BinaryHeap::new(),
        };
        for nth in 0..sorted.runs.len() {
            sorted.refill(nth)?;
        }
        Ok(sorted)
    }
}

/// A file that is gone when it is closed.
fn nameless(folder: &Path) -> io::Result<File> {
    let name = format!("walpost-{}-{:016x}", std::process::id(), rand::random::<u64>());
    let path = folder.join(name);
    let file = File::options().read(true).write(true).create_new(true).open(&path);
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
    let file = file.map_err(named)?;
    std::fs::remove_file(&path).map_err(named)?;
    Ok(file)
}

/// A sorted part of the file.
struct Run {
    at: u64,
    end: u64,
    piece: Vec<u8>,
    taken: usize,
}

/// What was sorted, in its order.
pub(super) struct Sorted<T> {
    buffer: std::vec::IntoIter<T>,
    file: Option<File>,
    runs: Vec<Run>,
    piece: usize,
    /// The next of each run.
    heap: BinaryHeap<Reverse<(T, usize)>>,
}

impl<T: Fixed> Sorted<T> {
    /// The next one.
    pub(super) fn next(&mut self) -> io::Result<Option<T>> {
        if self.runs.is_empty() {
            return Ok(self.buffer.next());
        }
        let Some(Reverse((item, nth))) = self.heap.pop() else { return Ok(None) };
        self.refill(nth)?;
        Ok(Some(item))
    }

    /// Puts the next of a run among the next ones.
    fn refill(&mut self, nth: usize) -> io::Result<()> {
        let (Some(run), Some(file)) = (self.runs.get_mut(nth), &self.file) else { return Ok(()) };
        if run.taken >= run.piece.len() {
            let left = usize::try_from(run.end - run.at).unwrap_or(usize::MAX);
            if left == 0 {
                run.piece = Vec::new();
                return Ok(());
            }
            run.piece.resize(left.min(self.piece), 0);
            file.read_exact_at(&mut run.piece, run.at)?;
            run.at += run.piece.len() as u64;
            run.taken = 0;
        }
        let item = T::read(&run.piece[run.taken..run.taken + T::BYTES]);
        run.taken += T::BYTES;
        self.heap.push(Reverse((item, nth)));
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Fixed for u32 {
        const BYTES: usize = 4;

        fn write(&self, into: &mut [u8]) {
            into.copy_from_slice(&self.to_be_bytes());
        }

        fn read(bytes: &[u8]) -> Self {
            Self::from_be_bytes(bytes.try_into().unwrap())
        }
    }

    proptest! {
        #[test]
        fn whatever_fits_into_memory_all_of_it_comes_in_order(
            items in proptest::collection::vec(0..50_u32, 0..200),
            fits in 2..300_usize,
        ) {
            let mut sorter = Sorter::new(&std::env::temp_dir(), fits * 4);
            for item in &items {
                sorter.push(*item).unwrap();
            }
            prop_assert_eq!(sorter.spilled() > 0, items.len() > fits);
            let (mut sorted, mut found) = (sorter.sorted().unwrap(), Vec::new());
            while let Some(item) = sorted.next().unwrap() {
                found.push(item);
            }
            let mut expected = items;
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let mut sorter = Sorter::new(Path::new("/nowhere/at/all"), 8);
        let pushed = (0..9_u32).try_for_each(|item| sorter.push(item));
        assert!(pushed.unwrap_err().to_string().contains("/nowhere/at/all"));
    }
}
