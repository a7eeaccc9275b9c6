//! Processes, on one or many machines, through MPI.
//!
//! The functions of the C interface are called by themselves, for the safe interface of the crate drops what they return.

use std::ffi::{c_char, c_int, c_void};
use std::io::Write;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mpi::ffi;

use crate::collective::{Abort, Collective, check_root, check_shares};
use crate::error::{CommError, PANICKED};

/// Elements of one call: counts are C integers.
const MOST: usize = 1 << 28;
/// How long MPI gets to end the job before this process ends by itself.
const LAST: Duration = Duration::from_secs(5);

/// Number of this process, once MPI is there to end it through.
static RANK: OnceLock<c_int> = OnceLock::new();
/// Whether MPI was shut down.
static OVER: AtomicBool = AtomicBool::new(false);

/// One of the processes that mpirun started. All calls come from the thread that opened it.
pub struct Mpi {
    rank: usize,
    size: usize,
    /// What sums arrive in.
    arrived: Vec<f32>,
}

impl Mpi {
    /// Starts MPI, once in a process. A panic of any thread ends the whole job from then on: unwinding would shut MPI down
    /// here, and leave the others waiting.
    ///
    /// # Errors
    /// [`CommError::Mpi`]; [`CommError::Usage`] where the library cannot be called from several threads, which ending a job
    /// needs, or was started before.
    pub fn open() -> Result<Self, CommError> {
        if RANK.get().is_some() {
            return Err(CommError::Usage("MPI can be started once in a process".into()));
        }
        let (mut given, mut rank, mut size) = (0, 0, 0);
        // SAFETY: nothing was called before; null stands for no arguments; the pointers are to integers that live on.
        unsafe {
            let wanted = ffi::RSMPI_THREAD_MULTIPLE;
            let none = std::ptr::null_mut();
            check("MPI_Init_thread", ffi::MPI_Init_thread(none, std::ptr::null_mut(), wanted, &mut given))?;
            check(
                "MPI_Comm_set_errhandler",
                ffi::MPI_Comm_set_errhandler(world(), ffi::RSMPI_ERRORS_RETURN),
            )?;
            check("MPI_Comm_rank", ffi::MPI_Comm_rank(world(), &mut rank))?;
            check("MPI_Comm_size", ffi::MPI_Comm_size(world(), &mut size))?;
            if given < wanted {
                let message = "this MPI cannot be called from several threads (MPI_THREAD_MULTIPLE)";
                return Err(CommError::Usage(message.into()));
            }
        }
        let _ = RANK.set(rank);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            end(PANICKED, &format!("panicked: {}", panic.payload_as_str().unwrap_or("no message")));
        }));
        Ok(Self { rank: rank as usize, size: size as usize, arrived: Vec::new() })
    }

    /// One call a piece, from `values` to as many elements of `arrived`, and back.
    fn reduced(&mut self, values: &mut [f32]) -> Result<(), CommError> {
        for piece in values.chunks_mut(MOST) {
            self.arrived.resize(piece.len(), 0.0);
            // SAFETY: both buffers have as many floats as are named, and do not overlap.
            let code = unsafe {
                ffi::MPI_Allreduce(
                    piece.as_ptr().cast(),
                    self.arrived.as_mut_ptr().cast(),
                    piece.len() as c_int,
                    ffi::RSMPI_FLOAT,
                    ffi::RSMPI_SUM,
                    world(),
                )
            };
            check("MPI_Allreduce", code)?;
            piece.copy_from_slice(&self.arrived);
        }
        Ok(())
    }

    /// Lengths in elements and where each begins, as C integers.
    fn places(shares: &[Range<usize>]) -> Result<(Vec<c_int>, Vec<c_int>), CommError> {
        let integer = |x: usize| {
            c_int::try_from(x)
                .map_err(|_| CommError::Usage(format!("{x} elements are too many for one call")))
        };
        let counts = shares.iter().map(|share| integer(share.len())).collect::<Result<_, _>>()?;
        let starts = shares.iter().map(|share| integer(share.start)).collect::<Result<_, _>>()?;
        Ok((counts, starts))
    }
}

fn world() -> ffi::MPI_Comm {
    // SAFETY: a constant of the library.
    unsafe { ffi::RSMPI_COMM_WORLD }
}

fn check(call: &'static str, code: c_int) -> Result<(), CommError> {
    if code == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    let mut text = [0 as c_char; ffi::MPI_MAX_ERROR_STRING as usize];
    let mut len = 0;
    // SAFETY: the buffer is as long as the library asks for.
    unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr(), &mut len) };
    let bytes: Vec<u8> = text.iter().take(len.max(0) as usize).map(|&c| c as u8).collect();
    Err(CommError::Mpi { call, code, text: String::from_utf8_lossy(&bytes).into_owned() })
}

/// Ends the job, and does not return. What cannot be said afterwards is said here: MPI ends this process as well.
fn end(code: u8, message: &str) {
    static ENDING: AtomicBool = AtomicBool::new(false);
    let Some(rank) = RANK.get().filter(|_| !OVER.load(Ordering::SeqCst)) else { return };
    if ENDING.swap(true, Ordering::SeqCst) {
        // Another thread is at it, and what it said is why.
        loop {
            std::thread::park();
        }
    }
    // In one line, which a launcher looks for.
    let line = format!("wgrad: rank {rank}: {} (exit code {code})\n", message.replace('\n', "; "));
    let _ = std::io::stderr().write_all(line.as_bytes());
    // Where the link to mpirun is cut, the library may wait for it.
    let _ = std::thread::Builder::new().spawn(move || {
        std::thread::sleep(LAST);
        exit_now(code);
    });
    // SAFETY: MPI was started for calls from any thread, and not shut down.
    unsafe { ffi::MPI_Abort(world(), c_int::from(code)) };
    exit_now(code);
}

/// Ends this process without what MPI has registered for its end, which may wait for other processes.
fn exit_now(code: u8) -> ! {
    unsafe extern "C" {
        fn _exit(code: c_int) -> !;
    }
    // SAFETY: a function of every C library, which ends the process.
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
        self.reduced(values)
    }

    fn reduce_scatter(&mut self, values: &mut [f32], shares: &[Range<usize>]) -> Result<(), CommError> {
        check_shares(shares, self.size, values.len())?;
        if values.is_empty() {
            // Nothing on every rank.
            return Ok(());
        }
        let (counts, _) = Self::places(shares)?;
        let own = shares[self.rank].clone();
        self.arrived.resize(own.len(), 0.0);
        // SAFETY: the counts add up to the values, and this rank's to the buffer, which does not overlap them.
        let code = unsafe {
            ffi::MPI_Reduce_scatter(
                values.as_ptr().cast(),
                self.arrived.as_mut_ptr().cast(),
                counts.as_ptr(),
                ffi::RSMPI_FLOAT,
                ffi::RSMPI_SUM,
                world(),
            )
        };
        check("MPI_Reduce_scatter", code)?;
        values[own].copy_from_slice(&self.arrived);
        Ok(())
    }

    fn all_gather(&mut self, values: &mut [f32], shares: &[Range<usize>]) -> Result<(), CommError> {
        check_shares(shares, self.size, values.len())?;
        if values.is_empty() {
            return Ok(());
        }
        let (counts, starts) = Self::places(shares)?;
        self.arrived.clear();
        self.arrived.extend_from_slice(&values[shares[self.rank].clone()]);
        // SAFETY: what is sent is a copy; the counts and places lie inside the values.
        let code = unsafe {
            ffi::MPI_Allgatherv(
                self.arrived.as_ptr().cast(),
                counts[self.rank],
                ffi::RSMPI_FLOAT,
                values.as_mut_ptr().cast(),
                counts.as_ptr(),
                starts.as_ptr(),
                ffi::RSMPI_FLOAT,
                world(),
            )
        };
        check("MPI_Allgatherv", code)
    }

    fn broadcast(&mut self, values: &mut [f32], root: usize) -> Result<(), CommError> {
        check_root(root, self.size)?;
        for piece in values.chunks_mut(MOST) {
            // SAFETY: the buffer has as many floats as are named.
            let code = unsafe {
                let buffer: *mut c_void = piece.as_mut_ptr().cast();
                ffi::MPI_Bcast(buffer, piece.len() as c_int, ffi::RSMPI_FLOAT, root as c_int, world())
            };
            check("MPI_Bcast", code)?;
        }
        Ok(())
    }

    fn exchange(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        let mut lengths = vec![0u64; self.size];
        let own = [bytes.len() as u64];
        // SAFETY: one number is sent, and there is room for one of each rank.
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
        let place = |&length: &u64| {
            let start = end;
            end += length as usize;
            start..end
        };
        let places: Vec<Range<usize>> = lengths.iter().map(place).collect();
        if end == 0 {
            return Ok(vec![Vec::new(); self.size]);
        }
        // A slice of no bytes may have the address 1, which is Open MPI's MPI_IN_PLACE.
        let bytes = if bytes.is_empty() { &[0][..] } else { bytes };
        let (counts, starts) = Self::places(&places)?;
        let mut all = vec![0u8; end];
        // SAFETY: as with floats: the places lie inside `all`.
        let code = unsafe {
            ffi::MPI_Allgatherv(
                bytes.as_ptr().cast(),
                counts[self.rank],
                ffi::RSMPI_UINT8_T,
                all.as_mut_ptr().cast(),
                counts.as_ptr(),
                starts.as_ptr(),
                ffi::RSMPI_UINT8_T,
                world(),
            )
        };
        check("MPI_Allgatherv", code)?;
        Ok(places.into_iter().map(|place| all[place].to_vec()).collect())
    }

    fn barrier(&mut self) -> Result<(), CommError> {
        // SAFETY: MPI is started.
        check("MPI_Barrier", unsafe { ffi::MPI_Barrier(world()) })
    }

    fn abort(&self) -> Abort {
        Abort::new(end)
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        if std::thread::panicking() || OVER.swap(true, Ordering::SeqCst) {
            return;
        }
        // SAFETY: nothing is called afterwards. Waits for the other processes.
        unsafe { ffi::MPI_Finalize() };
    }
}
