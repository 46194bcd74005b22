//! A list that grows without being copied: a vector that doubles would need twice and three times its size.

use std::collections::VecDeque;

/// Items of one chunk.
const CHUNK: usize = 4096;

/// Items by their number, the oldest of which can be taken away. Numbers are never used again.
#[derive(Debug)]
pub struct Chunks<T> {
    chunks: VecDeque<Vec<T>>,
    /// Number of the first item of the first chunk.
    base: usize,
    /// Number of the oldest item that is left.
    first: usize,
    end: usize,
}

impl<T> Default for Chunks<T> {
    fn default() -> Chunks<T> {
        Chunks { chunks: VecDeque::new(), base: 0, first: 0, end: 0 }
    }
}

impl<T> Chunks<T> {
    /// Number of the oldest item; the number of the next one when there is none.
    pub fn first(&self) -> usize {
        self.first
    }

    /// Number of the item that comes next.
    pub fn end(&self) -> usize {
        self.end
    }

    pub fn len(&self) -> usize {
        self.end - self.first
    }

    pub fn push(&mut self, item: T) -> usize {
        if self.chunks.back().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push_back(Vec::with_capacity(CHUNK));
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.push(item);
        }
        self.end += 1;
        self.end - 1
    }

    pub fn get(&self, number: usize) -> Option<&T> {
        if !(self.first..self.end).contains(&number) {
            return None;
        }
        let at = number - self.base;
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)
    }

    /// All items that are left, oldest first.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten().skip(self.first - self.base)
    }

    /// Takes the oldest item away.
    pub fn pop_front(&mut self) -> Option<&T> {
        if self.first == self.end {
            return None;
        }
        if self.first - self.base == CHUNK {
            self.chunks.pop_front();
            self.base += CHUNK;
        }
        self.first += 1;
        let at = self.first - 1 - self.base;
        self.chunks.front()?.get(at)
    }

    /// Number of the first item for which `is_before` is false; it is true for those before and for none after.
    pub fn partition_point(&self, is_before: impl Fn(&T) -> bool) -> usize {
        let (mut low, mut high) = (self.first, self.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle).is_some_and(&is_before) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// What the chunks have allocated.
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<T>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_keep_their_numbers_when_older_ones_go() {
        let mut chunks = Chunks::default();
        for n in 0..3 * CHUNK {
            assert_eq!(chunks.push(n), n);
        }
        for n in 0..2 * CHUNK + 10 {
            assert_eq!(chunks.pop_front(), Some(&n));
        }
        assert_eq!((chunks.first(), chunks.end(), chunks.len()), (2 * CHUNK + 10, 3 * CHUNK, CHUNK - 10));
        assert_eq!(chunks.get(2 * CHUNK + 9), None);
        assert_eq!(chunks.get(2 * CHUNK + 10), Some(&(2 * CHUNK + 10)));
        assert_eq!(chunks.partition_point(|n| *n < 3 * CHUNK - 5), 3 * CHUNK - 5);
        while chunks.pop_front().is_some() {}
        assert_eq!((chunks.len(), chunks.push(7), chunks.len()), (0, 3 * CHUNK, 1));
        assert_eq!(chunks.get(3 * CHUNK), Some(&7));
    }
}
