//! Collective of processes, on one or many machines, through MPI.
//!
//! This calls the C functions directly, because the safe interface of the `mpi` crate discards the error codes.

use std::ffi::{c_char, c_int, c_void};
use std::io::Write;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mpi::ffi;

use crate::collective::{AbortHandle, Collective, check_root, check_shards};
use crate::error::{CommError, PANICKED};

/// Largest number of elements in one MPI call, because MPI takes counts as C integers.
const MAX_ELEMENTS: usize = 1 << 28;
/// Time that `MPI_Abort` has to end the job. After this time, the process exits even if `MPI_Abort` has not returned.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Rank of this process. Set when MPI is initialized; from then on, the job can be aborted.
static RANK: OnceLock<c_int> = OnceLock::new();
/// Whether MPI has been finalized.
static FINALIZED: AtomicBool = AtomicBool::new(false);

/// Collective of the processes that mpirun started. All calls must be made on the thread that called [`Mpi::open`].
pub struct Mpi {
    rank: usize,
    size: usize,
    /// Receive buffer of reductions, and send buffer of gathers.
    buffer: Vec<f32>,
}

impl Mpi {
    /// Initializes MPI. This is possible only once per process.
    ///
    /// After the call, a panic on any thread aborts the job. If it did not, unwinding would finalize MPI in this
    /// process and leave the other processes waiting.
    ///
    /// # Errors
    /// Returns [`CommError::Usage`] if MPI was initialized before, or if the library does not support calls from
    /// several threads, which aborting a job requires. Returns [`CommError::Mpi`] if an MPI call fails.
    pub fn open() -> Result<Self, CommError> {
        if RANK.get().is_some() {
            return Err(CommError::Usage(
                "MPI was already initialized; a process can open it only once".into(),
            ));
        }
        let (mut provided, mut rank, mut size) = (0, 0, 0);
        // SAFETY: `RANK` is unset, so MPI has not been initialized; MPI_Init_thread accepts null for argc and argv; the
        // other pointers are to local integers that outlive the calls.
        unsafe {
            let required = ffi::RSMPI_THREAD_MULTIPLE;
            let null = std::ptr::null_mut();
            check(
                "MPI_Init_thread",
                ffi::MPI_Init_thread(null, std::ptr::null_mut(), required, &mut provided),
            )?;
            check(
                "MPI_Comm_set_errhandler",
                ffi::MPI_Comm_set_errhandler(world(), ffi::RSMPI_ERRORS_RETURN),
            )?;
            check("MPI_Comm_rank", ffi::MPI_Comm_rank(world(), &mut rank))?;
            check("MPI_Comm_size", ffi::MPI_Comm_size(world(), &mut size))?;
            if provided < required {
                let message =
                    "the MPI library does not support calls from several threads (MPI_THREAD_MULTIPLE)";
                return Err(CommError::Usage(message.into()));
            }
        }
        let _ = RANK.set(rank);
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            previous(panic);
            abort(PANICKED, &format!("panicked: {}", panic.payload_as_str().unwrap_or("no message")));
        }));
        Ok(Self { rank: rank as usize, size: size as usize, buffer: Vec::new() })
    }

    /// Sums `values` over all processes, in pieces of at most [`MAX_ELEMENTS`].
    fn sum(&mut self, values: &mut [f32]) -> Result<(), CommError> {
        for piece in values.chunks_mut(MAX_ELEMENTS) {
            self.buffer.resize(piece.len(), 0.0);
            // SAFETY: both buffers hold `piece.len()` floats and do not overlap.
            let code = unsafe {
                ffi::MPI_Allreduce(
                    piece.as_ptr().cast(),
                    self.buffer.as_mut_ptr().cast(),
                    piece.len() as c_int,
                    ffi::RSMPI_FLOAT,
                    ffi::RSMPI_SUM,
                    world(),
                )
            };
            check("MPI_Allreduce", code)?;
            piece.copy_from_slice(&self.buffer);
        }
        Ok(())
    }

    /// Returns the counts and displacements of `shards`, as C integers.
    fn counts(shards: &[Range<usize>]) -> Result<(Vec<c_int>, Vec<c_int>), CommError> {
        let integer = |x: usize| {
            c_int::try_from(x).map_err(|_| {
                CommError::Usage(format!("{x} elements exceed the largest count of an MPI call"))
            })
        };
        let counts = shards.iter().map(|shard| integer(shard.len())).collect::<Result<_, _>>()?;
        let displacements = shards.iter().map(|shard| integer(shard.start)).collect::<Result<_, _>>()?;
        Ok((counts, displacements))
    }
}

fn world() -> ffi::MPI_Comm {
    // SAFETY: reads a constant of the MPI library that is never written.
    unsafe { ffi::RSMPI_COMM_WORLD }
}

fn check(call: &'static str, code: c_int) -> Result<(), CommError> {
    if code == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    let mut text = [0 as c_char; ffi::MPI_MAX_ERROR_STRING as usize];
    let mut len = 0;
    // SAFETY: the buffer has MPI_MAX_ERROR_STRING bytes, the most that MPI_Error_string writes.
    unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr(), &mut len) };
    let bytes: Vec<u8> = text.iter().take(len.max(0) as usize).map(|&c| c as u8).collect();
    Err(CommError::Mpi { call, code, text: String::from_utf8_lossy(&bytes).into_owned() })
}

/// Prints the reason and aborts the job, including this process. Returns only if MPI is not running.
fn abort(code: u8, message: &str) {
    static ABORTING: AtomicBool = AtomicBool::new(false);
    let Some(rank) = RANK.get().filter(|_| !FINALIZED.load(Ordering::SeqCst)) else { return };
    if ABORTING.swap(true, Ordering::SeqCst) {
        // Another thread is already aborting the job and has printed its reason; this process is about to end.
        loop {
            std::thread::park();
        }
    }
    // The launcher parses this line, so the message must not contain line breaks.
    let line = format!("wgrad: rank {rank}: {} (exit code {code})\n", message.replace('\n', "; "));
    let _ = std::io::stderr().write_all(line.as_bytes());
    // MPI_Abort may hang if the connection to mpirun is cut.
    let _ = std::thread::Builder::new().spawn(move || {
        std::thread::sleep(ABORT_TIMEOUT);
        exit_now(code);
    });
    // SAFETY: MPI was initialized with MPI_THREAD_MULTIPLE, so any thread may call it, and MPI has not been finalized.
    unsafe { ffi::MPI_Abort(world(), c_int::from(code)) };
    exit_now(code);
}

/// Ends this process without running MPI's exit handlers, which may wait for other processes.
fn exit_now(code: u8) -> ! {
    unsafe extern "C" {
        fn _exit(code: c_int) -> !;
    }
    // SAFETY: `_exit` is declared as in POSIX, takes any integer and does not return.
    unsafe { _exit(c_int::from(code)) }
}

impl Collective for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CommError> {
        self.sum(values)
    }

    fn reduce_scatter(&mut self, values: &mut [f32], shards: &[Range<usize>]) -> Result<(), CommError> {
        check_shards(shards, self.size, values.len())?;
        if values.is_empty() {
            // The length is the same on all ranks, so no rank makes the MPI call.
            return Ok(());
        }
        let (counts, _) = Self::counts(shards)?;
        let shard = shards[self.rank].clone();
        self.buffer.resize(shard.len(), 0.0);
        // SAFETY: `check_shards` ensures that the counts sum to `values.len()`; `buffer` has this rank's count and does
        // not overlap `values`.
        let code = unsafe {
            ffi::MPI_Reduce_scatter(
                values.as_ptr().cast(),
                self.buffer.as_mut_ptr().cast(),
                counts.as_ptr(),
                ffi::RSMPI_FLOAT,
                ffi::RSMPI_SUM,
                world(),
            )
        };
        check("MPI_Reduce_scatter", code)?;
        values[shard].copy_from_slice(&self.buffer);
        Ok(())
    }

    fn all_gather(&mut self, values: &mut [f32], shards: &[Range<usize>]) -> Result<(), CommError> {
        check_shards(shards, self.size, values.len())?;
        if values.is_empty() {
            return Ok(());
        }
        let (counts, displacements) = Self::counts(shards)?;
        self.buffer.clear();
        self.buffer.extend_from_slice(&values[shards[self.rank].clone()]);
        // SAFETY: the send buffer is a copy of this rank's shard, so it does not overlap `values`; `check_shards`
        // ensures that all counts and displacements lie within `values`.
        let code = unsafe {
            ffi::MPI_Allgatherv(
                self.buffer.as_ptr().cast(),
                counts[self.rank],
                ffi::RSMPI_FLOAT,
                values.as_mut_ptr().cast(),
                counts.as_ptr(),
                displacements.as_ptr(),
                ffi::RSMPI_FLOAT,
                world(),
            )
        };
        check("MPI_Allgatherv", code)
    }

    fn broadcast(&mut self, values: &mut [f32], root: usize) -> Result<(), CommError> {
        check_root(root, self.size)?;
        for piece in values.chunks_mut(MAX_ELEMENTS) {
            // SAFETY: the buffer holds `piece.len()` floats.
            let code = unsafe {
                let buffer: *mut c_void = piece.as_mut_ptr().cast();
                ffi::MPI_Bcast(buffer, piece.len() as c_int, ffi::RSMPI_FLOAT, root as c_int, world())
            };
            check("MPI_Bcast", code)?;
        }
        Ok(())
    }

    fn all_gather_bytes(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        let mut lengths = vec![0u64; self.size];
        let own = [bytes.len() as u64];
        // SAFETY: the send buffer holds one u64, and the receive buffer holds one u64 for each rank.
        let code = unsafe {
            ffi::MPI_Allgather(
                own.as_ptr().cast(),
                1,
                ffi::RSMPI_UINT64_T,
                lengths.as_mut_ptr().cast(),
                1,
                ffi::RSMPI_UINT64_T,
                world(),
            )
        };
        check("MPI_Allgather", code)?;
        let mut end = 0;
        let range = |&length: &u64| {
            let start = end;
            end += length as usize;
            start..end
        };
        let ranges: Vec<Range<usize>> = lengths.iter().map(range).collect();
        if end == 0 {
            return Ok(vec![Vec::new(); self.size]);
        }
        // The pointer of an empty slice may have the address 1, which Open MPI interprets as MPI_IN_PLACE.
        let bytes = if bytes.is_empty() { &[0][..] } else { bytes };
        let (counts, displacements) = Self::counts(&ranges)?;
        let mut all = vec![0u8; end];
        // SAFETY: the send buffer holds at least this rank's count of bytes; `ranges` are contiguous and end at
        // `all.len()`.
        let code = unsafe {
            ffi::MPI_Allgatherv(
                bytes.as_ptr().cast(),
                counts[self.rank],
                ffi::RSMPI_UINT8_T,
                all.as_mut_ptr().cast(),
                counts.as_ptr(),
                displacements.as_ptr(),
                ffi::RSMPI_UINT8_T,
                world(),
            )
        };
        check("MPI_Allgatherv", code)?;
        Ok(ranges.into_iter().map(|range| all[range].to_vec()).collect())
    }

    fn barrier(&mut self) -> Result<(), CommError> {
        // SAFETY: `self` exists only between MPI_Init_thread and MPI_Finalize.
        check("MPI_Barrier", unsafe { ffi::MPI_Barrier(world()) })
    }

    fn abort_handle(&self) -> AbortHandle {
        AbortHandle::new(abort)
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        if std::thread::panicking() || FINALIZED.swap(true, Ordering::SeqCst) {
            return;
        }
        // MPI_Finalize waits for the other processes.
        // SAFETY: MPI is initialized, and `FINALIZED` keeps this process from calling MPI afterwards.
        unsafe { ffi::MPI_Finalize() };
    }
}
