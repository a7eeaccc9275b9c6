//! Collective for nodes with several replicas each: communicates first within each node, then between the nodes.

use std::fmt;
use std::ops::Range;

use wgrad_stdx::never;

use crate::collective::{AbortHandle, Collective, check_root, check_shards};
use crate::error::CommError;
use crate::local::Local;

/// One rank of a group of nodes with the same number of replicas each. Tensors are reduced within each node first; then
/// only the leader of each node, its local rank 0, communicates with the other leaders.
///
/// Ranks are numbered node by node: local rank r of node k has rank k · n + r, where n is the number of replicas per
/// node. The values of a node are summed in the order of its ranks. The sums of the nodes are then added in the order
/// of the collective between the leaders.
pub struct Hierarchical {
    local: Local,
    /// Collective between the leaders; `None` on ranks that are not leaders, or if there is only one node.
    leaders: Option<Box<dyn Collective>>,
    node: usize,
    nodes: usize,
}

impl Hierarchical {
    /// Joins the nodes. Every rank calls this. A leader passes its rank of the collective between the leaders as
    /// `leaders`; all other ranks pass `None`. If there is only one node, the leader may also pass `None`.
    ///
    /// # Errors
    /// Returns [`CommError::Usage`] if a rank that is not a leader passes `leaders`, [`CommError::Mismatch`] if the
    /// nodes have different numbers of replicas, and the error of `leaders` if a call of `leaders` fails.
    pub fn new(mut local: Local, mut leaders: Option<Box<dyn Collective>>) -> Result<Self, CommError> {
        // Every rank checks this, so that all ranks return the error instead of waiting for each other.
        let passed = local.all_gather_bytes(&[u8::from(leaders.is_some())])?;
        if let Some(rank) = (1..local.size()).find(|&rank| passed[rank] != [0]) {
            let message = format!(
                "replica {rank} passes a collective between nodes; only replica 0 of a node may pass one"
            );
            return Err(CommError::Usage(message));
        }
        let joined = leaders.as_deref_mut().map(|leaders| join_leaders(&local, leaders));
        if let (Some(Ok((node, _))), Some(leaders)) = (&joined, leaders.as_deref()) {
            local.set_parent(leaders.abort_handle(), node * local.size());
        }
        let (node, nodes) = match joined {
            Some(Err(error)) => {
                // The next call of the node's other ranks fails with the leader's error as the reason.
                let leader = local.rank();
                local.abort_from_parent(leader, error.abort_code(), &error.to_string());
                return Err(error);
            }
            Some(Ok(place)) => broadcast_place(&mut local, Some(place))?,
            None => broadcast_place(&mut local, None)?,
        };
        Ok(Self { local, leaders, node, nodes })
    }

    /// Makes a call between nodes if this rank is a leader. If the call fails, the other ranks of the node are aborted.
    fn call_leaders(
        &mut self,
        call: impl FnOnce(&mut dyn Collective) -> Result<(), CommError>,
    ) -> Result<(), CommError> {
        let Some(leaders) = self.leaders.as_deref_mut() else { return Ok(()) };
        let error = match call(leaders) {
            Ok(()) => return Ok(()),
            // The rank of a leader is the index of its node. The message names the replica.
            Err(CommError::Aborted { rank, code, message }) => {
                CommError::Aborted { rank: rank * self.local.size(), code, message }
            }
            Err(error) => error,
        };
        match &error {
            CommError::Aborted { rank, code, message } => {
                self.local.abort_from_parent(*rank, *code, message);
            }
            other => {
                let leader = self.node * self.local.size();
                self.local.abort_from_parent(leader, other.abort_code(), &other.to_string());
            }
        }
        Err(error)
    }

    /// Merges the shards of each node, which are contiguous because ranks are numbered node by node.
    fn node_shards(&self, shards: &[Range<usize>]) -> Vec<Range<usize>> {
        let nodes = shards.chunks(self.local.size());
        nodes.map(|node| node[0].start..node[node.len() - 1].end).collect()
    }
}

impl Collective for Hierarchical {
    fn rank(&self) -> usize {
        self.node * self.local.size() + self.local.rank()
    }

    fn size(&self) -> usize {
        self.nodes * self.local.size()
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CommError> {
        self.local.all_reduce(values)?;
        if self.nodes == 1 {
            return Ok(());
        }
        self.call_leaders(|leaders| leaders.all_reduce(values))?;
        self.local.broadcast(values, 0)
    }

    fn reduce_scatter(&mut self, values: &mut [f32], shards: &[Range<usize>]) -> Result<(), CommError> {
        check_shards(shards, self.size(), values.len())?;
        if self.nodes == 1 {
            return self.local.reduce_scatter(values, shards);
        }
        self.local.all_reduce(values)?;
        let node_shards = self.node_shards(shards);
        self.call_leaders(|leaders| leaders.reduce_scatter(values, &node_shards))?;
        self.local.broadcast(&mut values[node_shards[self.node].clone()], 0)
    }

    fn all_gather(&mut self, values: &mut [f32], shards: &[Range<usize>]) -> Result<(), CommError> {
        check_shards(shards, self.size(), values.len())?;
        if self.nodes == 1 {
            return self.local.all_gather(values, shards);
        }
        let node_shards = self.node_shards(shards);
        let node_shard = node_shards[self.node].clone();
        let replicas = self.local.size();
        // Shards of this node's replicas, relative to the start of the node's shard.
        let local_shards: Vec<_> = shards[self.node * replicas..][..replicas]
            .iter()
            .map(|shard| shard.start - node_shard.start..shard.end - node_shard.start)
            .collect();
        self.local.all_gather(&mut values[node_shard], &local_shards)?;
        self.call_leaders(|leaders| leaders.all_gather(values, &node_shards))?;
        self.local.broadcast(values, 0)
    }

    fn broadcast(&mut self, values: &mut [f32], root: usize) -> Result<(), CommError> {
        check_root(root, self.size())?;
        let (node, local_root) = (root / self.local.size(), root % self.local.size());
        if self.nodes == 1 {
            return self.local.broadcast(values, local_root);
        }
        if node == self.node && local_root != 0 {
            self.local.broadcast(values, local_root)?;
        }
        self.call_leaders(|leaders| leaders.broadcast(values, node))?;
        self.local.broadcast(values, 0)
    }

    fn all_gather_bytes(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        let node_messages = self.local.all_gather_bytes(bytes)?;
        if self.nodes == 1 {
            return Ok(node_messages);
        }
        let mut packed = Vec::new();
        self.call_leaders(|leaders| {
            packed = leaders.all_gather_bytes(&pack(&node_messages))?.concat();
            Ok(())
        })?;
        let packed = self.local.all_gather_bytes(&packed)?.swap_remove(0);
        unpack(&packed, self.size())
    }

    fn barrier(&mut self) -> Result<(), CommError> {
        self.local.barrier()?;
        if self.nodes == 1 {
            return Ok(());
        }
        self.call_leaders(|leaders| leaders.barrier())?;
        self.local.barrier()
    }

    fn abort_handle(&self) -> AbortHandle {
        self.local.abort_handle()
    }
}

impl fmt::Debug for Hierarchical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hierarchical({} of {}, node {} of {})", self.rank(), self.size(), self.node, self.nodes)
    }
}

/// Checks that all nodes have the same number of replicas. Returns the index of this node and the number of nodes.
fn join_leaders(local: &Local, leaders: &mut dyn Collective) -> Result<(usize, usize), CommError> {
    let sizes = leaders.all_gather_bytes(&(local.size() as u64).to_le_bytes())?;
    let sizes: Vec<u64> = sizes.iter().map(|bytes| decode_u64(bytes)).collect::<Result<_, _>>()?;
    if sizes.iter().any(|&size| size != local.size() as u64) {
        let message = format!("the nodes have {sizes:?} replicas; all nodes must have the same number");
        return Err(CommError::Mismatch(message));
    }
    Ok((leaders.rank(), leaders.size()))
}

/// Broadcasts the node index and the number of nodes from the leader to all ranks of its node.
///
/// If `place` is `None` on the leader, there is only one node.
fn broadcast_place(local: &mut Local, place: Option<(usize, usize)>) -> Result<(usize, usize), CommError> {
    let (node, nodes) = place.unwrap_or((0, 1));
    let bytes = [(node as u64).to_le_bytes(), (nodes as u64).to_le_bytes()].concat();
    let leader = local.all_gather_bytes(&bytes)?.swap_remove(0);
    let (node, nodes) = leader.split_at(size_of::<u64>());
    Ok((decode_u64(node)? as usize, decode_u64(nodes)? as usize))
}

/// Concatenates messages, each preceded by its length in bytes as a little-endian u64.
fn pack(messages: &[Vec<u8>]) -> Vec<u8> {
    let with_length =
        |message: &Vec<u8>| [&(message.len() as u64).to_le_bytes(), message.as_slice()].concat();
    messages.iter().flat_map(with_length).collect()
}

/// Splits `bytes` into the `count` messages that [`pack`] concatenated.
fn unpack(mut bytes: &[u8], count: usize) -> Result<Vec<Vec<u8>>, CommError> {
    let truncated = |left: usize| never!("packed messages end {left} bytes into a message");
    let mut messages = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, tail) =
            bytes.split_at_checked(size_of::<u64>()).ok_or_else(|| truncated(bytes.len()))?;
        let (message, tail) =
            tail.split_at_checked(decode_u64(length)? as usize).ok_or_else(|| truncated(tail.len()))?;
        messages.push(message.to_vec());
        bytes = tail;
    }
    match bytes.len() {
        0 => Ok(messages),
        extra => Err(never!("{extra} bytes follow {count} packed messages").into()),
    }
}

fn decode_u64(bytes: &[u8]) -> Result<u64, CommError> {
    let found = bytes.len();
    let bytes = bytes.try_into().map_err(|_| never!("an encoded u64 has {found} bytes"))?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpack_inverts_pack_and_rejects_truncated_bytes() {
        let messages = vec![vec![1, 2, 3], vec![], vec![9; 300]];
        let packed = pack(&messages);
        assert_eq!(unpack(&packed, 3).unwrap(), messages);
        for end in [0, 5, packed.len() - 1] {
            assert!(matches!(unpack(&packed[..end], 3), Err(CommError::Internal(_))), "{end}");
        }
        assert!(unpack(&packed, 2).is_err());
    }
}
