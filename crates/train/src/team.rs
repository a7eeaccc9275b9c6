//! Several replicas that train one model: what a replica knows of the others, and how gradients travel.
//!
//! Every replica has the whole model and a share of each batch. Gradients lie as the parameters do. They are cut into buckets
//! in the order in which the backward pass finishes them, and a bucket is on its way to the communication thread while later
//! ones are being computed. After a step all replicas hold the same bits.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wgrad_comm::{CommError, Done, Job, Ticket, Worker};
use wgrad_graph::{GroupId, States, fnv1a};
use wgrad_program::{DeviceError, Program, ReadbackHandler, Readback};

use crate::error::TrainError;
use crate::plan::Phase;

/// What takes summed gradients: the first element and the values.
type Summed<'s> = dyn FnMut(usize, &[f32]) -> Result<(), TrainError> + 's;

/// How replicas work together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TeamOptions {
    /// Bytes of gradients that travel together.
    pub bucket_bytes: usize,
    /// Steps between two comparisons of the parameters of all replicas; 0 for none.
    pub check_every: u64,
    /// How long the others may take for what happens once: loading, the first step, writing a checkpoint.
    pub patience: Duration,
}

impl Default for TeamOptions {
    /// Buckets of 25 MB, as PyTorch's; compared every 10 steps; five minutes of patience.
    fn default() -> Self {
        Self { bucket_bytes: 25_000_000, check_every: 10, patience: Duration::from_secs(300) }
    }
}

/// What travelled between replicas, and how much of that was hidden behind computing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Traffic {
    /// Steps made.
    pub steps: u64,
    /// Bytes of gradients of a step.
    pub bytes: usize,
    /// Buckets of a step.
    pub buckets: usize,
    /// Seconds in which buckets and statistics travelled, waiting for slower replicas included.
    pub busy: f64,
    /// Those seconds of it that came after the backward pass, or that a pass waited for statistics.
    pub exposed: f64,
    /// Seconds of the passes forward and backward, without those.
    pub compute: f64,
    /// Seconds of the steps.
    pub total: f64,
}

impl Traffic {
    /// Share of the communication that ran while gradients were being computed.
    pub fn hidden(&self) -> f64 {
        if self.busy > 0.0 { 1.0 - (self.exposed / self.busy).min(1.0) } else { 0.0 }
    }
}

/// A replica's side of a team.
pub struct Team {
    pub(crate) worker: Worker,
    pub(crate) options: TeamOptions,
    /// Those of the gradients.
    pub(crate) readings: Vec<Readback>,
    passes: Vec<(Phase, Arc<Listening>)>,
    buckets: Vec<Bucket>,
    /// Gradients of the bucket that is being filled.
    filling: Vec<f32>,
    /// The last bucket, which waits for what is known at the end of the pass only.
    held: Option<Vec<f32>>,
    tickets: Vec<Ticket>,
    /// Whether there is still something to add up in the midst of the pass.
    summing: bool,
    /// Seconds of the step that passes waited for sums.
    pub(crate) waited: f64,
    /// What sets out after that.
    waiting: Vec<Job>,
    failed: Option<CommError>,
    /// Whether this replica wants to stop.
    pub(crate) wish: bool,
    /// Whether one of them does, as all know.
    pub(crate) agreed: bool,
    pub(crate) traffic: Traffic,
    /// Whether something was evaluated together: the first time takes longer, for kernels are made.
    summed: bool,
}

/// What becomes of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is number i of those of the gradients.
    Gradients(usize),
    /// All replicas add it up, and the pass goes on with the sum.
    Sum {
        /// Whether the pass has no more of these.
        last: bool,
    },
}

/// The readings of a pass, and what becomes of each.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    pub readings: Vec<Readback>,
    pub uses: Vec<Use>,
}

impl Listening {
    /// To sums, and in the last pass of a step to gradients.
    pub fn to(sums: Vec<Readback>, gradients: &[Readback]) -> Self {
        let count = sums.len();
        let sums = sums.into_iter().enumerate().map(|(i, sum)| (sum, Use::Sum { last: i + 1 == count }));
        let gradients = gradients.iter().cloned().enumerate().map(|(i, part)| (part, Use::Gradients(i)));
        // A sum that others wait for comes before gradients that are there at the same time.
        let mut all: Vec<(Readback, Use)> = sums.chain(gradients).collect();
        all.sort_by_key(|(reading, _)| reading.after);
        let (readings, uses) = all.into_iter().unzip();
        Self { readings, uses }
    }
}

/// Readings that travel together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bucket {
    /// Its readings, by number.
    readings: Range<usize>,
    /// The share of every replica in it, where each updates a share.
    shares: Option<Vec<Range<usize>>>,
}

impl Team {
    /// A replica that talks to the others through `worker`.
    pub fn new(worker: Worker, options: TeamOptions) -> Self {
        Self {
            worker,
            options,
            readings: Vec::new(),
            buckets: Vec::new(),
            filling: Vec::new(),
            held: None,
            tickets: Vec::new(),
            passes: Vec::new(),
            summing: false,
            waited: 0.0,
            waiting: Vec::new(),
            failed: None,
            wish: false,
            agreed: false,
            traffic: Traffic::default(),
            summed: false,
        }
    }

    /// Number of this replica.
    pub fn rank(&self) -> usize {
        self.worker.rank()
    }

    /// Number of replicas.
    pub fn size(&self) -> usize {
        self.worker.size()
    }

    /// What travelled so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Cuts the gradients of a program into buckets: all replicas as the first one does, whose kernels may be fused in another
    /// way and finish in another order.
    ///
    /// # Errors
    /// The other replicas cannot be reached, or train another model.
    pub(crate) fn cut(
        &mut self,
        program: &Program,
        states: &States,
        gradients: GroupId,
        shares: Option<&[Range<usize>]>,
    ) -> Result<(), TrainError> {
        let group = states.get(gradients);
        let ends = group.entries.iter().skip(1).map(|entry| entry.offset).chain([group.len()]);
        let tensors: Vec<Range<usize>> =
            group.entries.iter().zip(ends).map(|(entry, end)| entry.offset..end).collect();
        let own: Vec<usize> = tensors.iter().map(|range| program.final_after(gradients, range)).collect();
        let bytes: Vec<u8> = own.iter().flat_map(|&after| (after as u64).to_le_bytes()).collect();
        let first = self.patiently(|worker| worker.exchange(&bytes))?.into_iter().next().unwrap_or_default();
        let first = first.as_chunks::<8>().0.iter().map(|after| u64::from_le_bytes(*after) as usize);
        let first: Vec<usize> = first.collect();
        if first.len() != tensors.len() {
            let (own, first) = (tensors.len(), first.len());
            return Err(TrainError::Config(format!(
                "this replica trains {own} parameters, the first one {first}"
            )));
        }
        let cut = buckets(first.into_iter().zip(tensors.clone()).collect(), self.options.bucket_bytes / 4);
        let mut after = 0;
        self.readings.clear();
        self.buckets.clear();
        for ranges in cut {
            let inside = |tensor: &Range<usize>| ranges.iter().any(|range| range.contains(&tensor.start));
            let done = own.iter().zip(&tensors).filter(|(_, tensor)| inside(tensor)).map(|(after, _)| *after);
            // A bucket does not overtake the one before it.
            after = done.fold(after, usize::max);
            let first = self.readings.len();
            let shares = shares.map(|shares| shares.iter().map(|share| within(&ranges, share)).collect());
            let reading =
                |range: &Range<usize>| Readback { group: gradients, range: range.clone(), after, reply: None };
            self.readings.extend(ranges.iter().map(reading));
            self.buckets.push(Bucket { readings: first..self.readings.len(), shares });
        }
        (self.traffic.bytes, self.traffic.buckets) = (group.bytes(), self.buckets.len());
        Ok(())
    }

    /// Says what to listen to in a pass.
    pub(crate) fn listen(&mut self, phase: Phase, to: Listening) {
        self.passes.retain(|(known, _)| *known != phase);
        self.passes.push((phase, Arc::new(to)));
    }

    /// What to listen to in a pass.
    pub(crate) fn listening(&self, phase: Phase) -> Arc<Listening> {
        let found = self.passes.iter().find(|(known, _)| *known == phase);
        found.map(|(_, listening)| listening.clone()).unwrap_or_default()
    }

    /// Runs a program and does with its readings what is to be done.
    pub(crate) fn run(
        &mut self,
        listening: &Listening,
        run: impl FnOnce(&[Readback], &mut ReadbackHandler<'_>) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        self.summing = listening.uses.iter().any(|heard| matches!(heard, Use::Sum { .. }));
        run(&listening.readings, &mut |i, values| match listening.uses[i] {
            Use::Gradients(number) => {
                self.arrived(number, values);
                Vec::new()
            }
            Use::Sum { last } => self.sum_now(values, last),
        })
    }

    /// What went wrong on the way.
    pub(crate) fn check(&mut self) -> Result<(), TrainError> {
        self.failed.take().map_or(Ok(()), |error| Err(error.into()))
    }

    /// The sum of values over all replicas. After an error it is the values themselves, and [`Team::check`] has the error.
    fn sum_now(&mut self, values: &[f32], last: bool) -> Vec<f32> {
        let begun = Instant::now();
        let sum = match self.failed {
            None => self.worker.all_reduce(values.to_vec()).map_err(|error| self.failed = Some(error)).ok(),
            Some(_) => None,
        };
        self.waited += begun.elapsed().as_secs_f64();
        if last {
            self.summing = false;
            std::mem::take(&mut self.waiting).into_iter().for_each(|job| self.send(job));
        }
        sum.unwrap_or_else(|| values.to_vec())
    }

    /// Takes the values of a reading, and sends its bucket on the way if that is complete.
    pub(crate) fn arrived(&mut self, number: usize, values: &[f32]) {
        self.filling.extend_from_slice(values);
        let Some(at) = self.buckets.iter().position(|bucket| bucket.readings.end == number + 1) else {
            return;
        };
        let full = std::mem::take(&mut self.filling);
        match self.buckets[at].shares.clone() {
            Some(shares) => self.send(Job::ReduceScatter(full, shares)),
            None if at + 1 == self.buckets.len() => self.held = Some(full),
            None => self.send(Job::AllReduce(full)),
        }
    }

    /// Which gradients are ready before which sum may differ between replicas, and all have to send in the same order: so
    /// gradients wait for the last sum.
    fn send(&mut self, job: Job) {
        if self.summing {
            return self.waiting.push(job);
        }
        match self.worker.submit(job) {
            Ok(ticket) => self.tickets.push(ticket),
            Err(error) => self.failed = self.failed.take().or(Some(error)),
        }
    }

    /// Sends the last bucket, and with it `tail`, and waits for all of them. Calls `each` with every part of the gradients
    /// that this replica needs, summed, and where it starts. Gives the sum of `tail`, and when the last bucket was back.
    pub(crate) fn collect(
        &mut self,
        tail: Vec<f32>,
        each: &mut Summed<'_>,
    ) -> Result<(Vec<f32>, Instant), TrainError> {
        let mut last = self.held.take().unwrap_or_default();
        let own = last.len();
        last.extend(tail);
        self.send(Job::AllReduce(last));
        let tickets = std::mem::take(&mut self.tickets);
        if let Some(error) = self.failed.take() {
            return Err(error.into());
        }
        let (mut end, count) = (Instant::now(), tickets.len());
        let mut tail = Vec::new();
        for (i, ticket) in tickets.into_iter().enumerate() {
            let Done { mut values, started, ended, .. } = self.worker.wait(ticket)?;
            self.traffic.busy += (ended - started).as_secs_f64();
            end = ended;
            if i + 1 == count {
                tail = values.split_off(own);
            }
            let Some(bucket) = self.buckets.get(i) else { continue };
            let wanted = match &bucket.shares {
                Some(shares) => shares.get(self.worker.rank()).cloned().unwrap_or(0..0),
                None => 0..values.len(),
            };
            let mut at = 0;
            for reading in &self.readings[bucket.readings.clone()] {
                let here = at..at + reading.range.len();
                let (start, end) = (here.start.max(wanted.start), here.end.min(wanted.end));
                if start < end {
                    each(reading.range.start + (start - at), &values[start..end])?;
                }
                at = here.end;
            }
        }
        Ok((tail, end))
    }

    /// Calls `talk` with more patience than a bucket is given.
    pub(crate) fn patiently<T>(
        &mut self,
        talk: impl FnOnce(&mut Worker) -> Result<T, CommError>,
    ) -> Result<T, CommError> {
        self.worker.within(self.options.patience, talk)
    }

    /// The sums of two numbers over all replicas, each added up in the same order everywhere.
    pub(crate) fn sum(&mut self, own: [f64; 2]) -> Result<[f64; 2], TrainError> {
        let first = !std::mem::replace(&mut self.summed, true);
        self.total(own, first)
    }

    /// The sums of some numbers over all replicas, with more patience than a bucket is given where `patient`.
    pub(crate) fn total<const N: usize>(
        &mut self,
        own: [f64; N],
        patient: bool,
    ) -> Result<[f64; N], TrainError> {
        let bytes: Vec<u8> = own.iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut sums = [0.0; N];
        let messages = match patient {
            true => self.patiently(|worker| worker.exchange(&bytes))?,
            false => self.worker.exchange(&bytes)?,
        };
        for message in messages {
            for (sum, bytes) in sums.iter_mut().zip(message.as_chunks::<8>().0) {
                *sum += f64::from_le_bytes(*bytes);
            }
        }
        Ok(sums)
    }

    /// Compares the parameters of all replicas.
    pub(crate) fn compare(&mut self, step: u64, parameters: &[f32]) -> Result<(), TrainError> {
        let hash = fingerprint(parameters);
        let hashes = self.worker.exchange(&hash.to_le_bytes())?;
        // What most replicas have is right; of two, what the first has.
        let votes = |hash: &Vec<u8>| hashes.iter().filter(|other| *other == hash).count();
        let most = hashes.iter().map(votes).max().unwrap_or(0);
        let right = hashes.iter().find(|hash| votes(hash) == most);
        let ranks: Vec<usize> = (0..hashes.len()).filter(|&rank| Some(&hashes[rank]) != right).collect();
        if ranks.is_empty() {
            return Ok(());
        }
        Err(TrainError::Diverged { step, since: self.options.check_every, ranks, of: hashes.len() })
    }
}

/// FNV-1a over words instead of bytes, in four lanes that do not wait for each other: it is taken of all parameters.
fn fingerprint(values: &[f32]) -> u64 {
    let mut lanes = [0xcbf2_9ce4_8422_2325_u64; 4];
    for words in values.chunks(4) {
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = (*lane ^ u64::from(word.to_bits())).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    fnv1a(bytemuck::cast_slice(&lanes))
}

/// Cuts tensors, given as what they wait for and where they lie, into buckets of at least `elements` but for the last. Each is
/// the stretches it consists of, from left to right; those that wait longer come later.
fn buckets(mut tensors: Vec<(usize, Range<usize>)>, elements: usize) -> Vec<Vec<Range<usize>>> {
    // Backward passes end where the network begins: of those that are ready together the last comes first.
    tensors.sort_by_key(|(after, range)| (*after, std::cmp::Reverse(range.start)));
    let mut all = Vec::new();
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let count = tensors.len();
    for (i, (_, range)) in tensors.into_iter().enumerate() {
        ranges.push(range);
        if ranges.iter().map(Range::len).sum::<usize>() >= elements || i + 1 == count {
            ranges.sort_by_key(|range| range.start);
            let joined = ranges.drain(..).fold(Vec::new(), |mut joined: Vec<Range<usize>>, range| {
                match joined.last_mut() {
                    Some(last) if last.end == range.start => last.end = range.end,
                    _ => joined.push(range),
                }
                joined
            });
            all.push(joined);
        }
    }
    all
}

/// Where the elements of `share` lie in `ranges` laid one after the other.
fn within(ranges: &[Range<usize>], share: &Range<usize>) -> Range<usize> {
    let before = |element: usize| {
        ranges.iter().map(|range| element.clamp(range.start, range.end) - range.start).sum::<usize>()
    };
    before(share.start)..before(share.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_come_in_the_order_of_the_backward_pass_and_hold_every_element_once() {
        // Weights of three layers, then their biases: the last layer is done first.
        let tensors =
            vec![(9, 0..100), (6, 100..300), (3, 300..400), (9, 400..410), (6, 410..420), (3, 420..430)];
        let cut = buckets(tensors, 110);
        assert_eq!(cut, [vec![300..400, 420..430], vec![100..300, 410..420], vec![0..100, 400..410]]);
        let tensors = vec![(2, 0..64), (1, 64..128), (1, 192..256)];
        assert_eq!(buckets(tensors, 1 << 20), [vec![0..128, 192..256]]);
    }

    #[test]
    fn every_bit_and_every_place_counts_in_a_fingerprint() {
        let values: Vec<f32> = (0..1001).map(|i| i as f32 * 0.37).collect();
        let whole = fingerprint(&values);
        for at in [0, 1, 499, 1000] {
            let mut other = values.clone();
            other[at] = f32::from_bits(other[at].to_bits() ^ 1);
            assert_ne!(fingerprint(&other), whole, "element {at}");
        }
        let mut swapped = values.clone();
        swapped.swap(3, 7);
        assert_ne!(fingerprint(&swapped), whole);
        assert_ne!(fingerprint(&values[..1000]), whole);
    }

    #[test]
    fn a_share_of_a_bucket_is_one_stretch() {
        let ranges = [300..400, 420..430];
        assert_eq!(within(&ranges, &(0..310)), 0..10);
        assert_eq!(within(&ranges, &(310..425)), 10..105);
        assert_eq!(within(&ranges, &(425..500)), 105..110);
        assert_eq!(within(&ranges, &(405..410)), 100..100);
    }
}
