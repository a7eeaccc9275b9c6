//! Pinned size and hash of a file of the catalogue.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::bufread::MultiGzDecoder;
use md5::Md5;
use sha2::Sha256;

use crate::fetch::problem::FetchProblem;

/// Pinned hash, in lower-case hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digest<'a> {
    /// MD5 hash, used if the publisher states no stronger hash. MD5 detects damage but not manipulation.
    Md5(&'a str),
    /// SHA-256 hash.
    Sha256(&'a str),
}

/// Content that a pin applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    /// The file itself, which may be compressed.
    File,
    /// The unpacked content of a gzip file, since the same content can be compressed in several ways.
    Unpacked,
}

/// Pinned size and hash of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin<'a> {
    /// Content that size and hash apply to.
    pub of: Pinned,
    /// Size in bytes, if it is known.
    pub size: Option<u64>,
    /// Expected hash.
    pub digest: Digest<'a>,
}

/// Reason why a file failed the check of its pin.
#[derive(Debug)]
pub(crate) enum CheckError {
    Io(io::Error),
    Problem(FetchProblem),
}

impl Pin<'_> {
    /// Maximum size of the file itself in bytes. The download of a wrong file stops at this size.
    pub(crate) fn largest_file(&self) -> Option<u64> {
        match self.of {
            Pinned::File => self.size,
            // Deflate adds at most 5 bytes per block of up to 64 KiB; the constant 4096 covers the gzip header.
            Pinned::Unpacked => self.size.map(|size| size + size / 1024 + 4096),
        }
    }

    /// Pinned size of the file itself, if it is known.
    pub(crate) fn file_size(&self) -> Option<u64> {
        self.size.filter(|_| self.of == Pinned::File)
    }

    pub(crate) fn content(&self) -> &'static str {
        match self.of {
            Pinned::File => "the file",
            Pinned::Unpacked => "the unpacked content",
        }
    }

    /// Reads `file` from its start and compares size and hash.
    pub(crate) fn check(&self, mut file: &File) -> Result<(), CheckError> {
        file.seek(SeekFrom::Start(0)).map_err(CheckError::Io)?;
        // Read one byte more than expected, to detect a file that is too long.
        let limit = self.size.map_or(u64::MAX, |size| size.saturating_add(1));
        let buffered = BufReader::with_capacity(1 << 16, file);
        let hashed = match self.of {
            Pinned::File => self.hash(buffered.take(limit)).map_err(CheckError::Io),
            Pinned::Unpacked => {
                let unzip_error =
                    |error: io::Error| CheckError::Problem(FetchProblem::Gzip(error.to_string()));
                self.hash(MultiGzDecoder::new(buffered).take(limit)).map_err(unzip_error)
            }
        };
        let (found, actual) = hashed?;
        let content = self.content();
        let (algorithm, expected) = match self.digest {
            Digest::Md5(expected) => ("MD5", expected),
            Digest::Sha256(expected) => ("SHA-256", expected),
        };
        Err(CheckError::Problem(match self.size {
            Some(expected) if found > expected => FetchProblem::TooLong { content, expected },
            Some(expected) if found != expected => FetchProblem::Size { content, expected, found },
            _ if actual == expected => return Ok(()),
            _ => FetchProblem::Hash { algorithm, content, expected: expected.to_owned(), actual },
        }))
    }

    fn hash(&self, mut reader: impl Read) -> io::Result<(u64, String)> {
        fn run<D: sha2::Digest>(reader: &mut impl Read) -> io::Result<(u64, String)> {
            let (mut hasher, mut buffer, mut len) = (D::new(), vec![0; 1 << 16], 0);
            loop {
                match reader.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => {
                        hasher.update(&buffer[..n]);
                        len += n as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok((len, hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
        }
        match self.digest {
            Digest::Md5(_) => run::<Md5>(&mut reader),
            Digest::Sha256(_) => run::<Sha256>(&mut reader),
        }
    }
}
