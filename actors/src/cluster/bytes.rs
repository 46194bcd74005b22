//! Reading what other nodes have written, byte by byte. Numbers are big-endian.

use bytes::{Buf, Bytes};

/// Bytes that are not what this version writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of the cluster cannot be read; all nodes have to run this version, or one that it can follow")]
pub struct Malformed;

/// Takes values off the front of a message. The bytes that it gives share the message's memory.
pub struct Reader(pub Bytes);

impl Reader {
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.fits(1)?;
        Ok(self.0.get_u8())
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.fits(2)?;
        Ok(self.0.get_u16())
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.fits(4)?;
        Ok(self.0.get_u32())
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.fits(8)?;
        Ok(self.0.get_u64())
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.fits(8)?;
        Ok(self.0.get_i64())
    }

    pub fn sixteen(&mut self) -> Result<[u8; 16], Malformed> {
        self.fits(16)?;
        let mut bytes = [0; 16];
        self.0.copy_to_slice(&mut bytes);
        Ok(bytes)
    }

    pub fn take(&mut self, len: usize) -> Result<Bytes, Malformed> {
        self.fits(len)?;
        Ok(self.0.split_to(len))
    }

    /// A text with its length before it.
    pub fn text(&mut self) -> Result<String, Malformed> {
        let len = usize::from(self.u16()?);
        String::from_utf8(self.take(len)?.into()).map_err(|_| Malformed)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn fits(&self, len: usize) -> Result<(), Malformed> {
        if self.0.len() < len { Err(Malformed) } else { Ok(()) }
    }
}

/// Appends a text with its length before it. It has less than 64 KiB.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}
