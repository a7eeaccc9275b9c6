//! Replicas of one process first, then between processes: what crosses the network crosses it once for all replicas of a node.

use std::ops::Range;

use crate::collective::{Abort, Collective, check_root, check_shares};
use crate::error::CommError;
use crate::local::Local;

/// One of several replicas of one of several nodes; its rank is node × replicas a node + number on the node.
pub struct Nested {
    local: Local,
    /// On the first replica of a node.
    between: Option<Box<dyn Collective>>,
    node: usize,
    nodes: usize,
    abort: Abort,
}

impl Nested {
    /// Joins the replicas of a node to those of the others. The first of them has what reaches the other nodes.
    ///
    /// # Errors
    /// Nodes have different numbers of replicas; they cannot be reached.
    pub fn new(mut local: Local, mut between: Option<Box<dyn Collective>>) -> Result<Self, CommError> {
        let replicas = local.size();
        let mut place = [0; 2];
        if let Some(between) = &mut between {
            let all = between.exchange(&(replicas as u64).to_le_bytes())?;
            let numbers =
                all.iter().map(|bytes| bytes.as_slice().try_into().map(u64::from_le_bytes).unwrap_or(0));
            let numbers: Vec<u64> = numbers.collect();
            if numbers.iter().any(|&n| n != replicas as u64) {
                let message = format!("all nodes have the same number of replicas; these have {numbers:?}");
                local.abort().call(2, &message);
                return Err(CommError::Usage(message));
            }
            place = [between.rank(), between.size()];
        }
        let bytes: Vec<u8> = place.iter().flat_map(|x| (*x as u64).to_le_bytes()).collect();
        let first = local.exchange(&bytes)?.swap_remove(0);
        let number = |at: usize| {
            let bytes = first.get(at * 8..at * 8 + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_le_bytes).map_or(0, |x| x as usize)
        };
        let (node, nodes) = (number(0), number(1));
        if nodes == 0 {
            return Err(CommError::Usage("the first replica of a node must reach the other nodes".into()));
        }
        let inner = local.abort();
        let outer = between.as_ref().map(|between| between.abort());
        let abort = Abort::new(move |code, message| {
            inner.call(code, message);
            // Where there is no way out from here, the first replica of the node hears of it and passes it on.
            if let Some(outer) = &outer {
                outer.call(code, message);
            }
        });
        Ok(Self { local, between, node, nodes, abort })
    }

    /// Passes an error of this node on to the others.
    fn passed<T>(&self, result: Result<T, CommError>) -> Result<T, CommError> {
        if let (Err(CommError::Aborted { code, message, .. }), Some(between)) = (&result, &self.between) {
            between.abort().call(*code, message);
        }
        if let Err(error) = &result {
            self.local.abort().call(7, &error.to_string());
        }
        result
    }
}

impl Collective for Nested {
    fn rank(&self) -> usize {
        self.node * self.local.size() + self.local.rank()
    }

    fn size(&self) -> usize {
        self.nodes * self.local.size()
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CommError> {
        let result = self.local.all_reduce(values).and_then(|()| match &mut self.between {
            Some(between) => between.all_reduce(values),
            None => Ok(()),
        });
        self.passed(result)?;
        let result = self.local.broadcast(values, 0);
        self.passed(result)
    }

    fn reduce_scatter(&mut self, values: &mut [f32], shares: &[Range<usize>]) -> Result<(), CommError> {
        check_shares(shares, self.size(), values.len())?;
        self.all_reduce(values)
    }

    fn all_gather(&mut self, values: &mut [f32], shares: &[Range<usize>]) -> Result<(), CommError> {
        check_shares(shares, self.size(), values.len())?;
        let own = shares[self.rank()].clone();
        let bytes: Vec<u8> = values[own].iter().flat_map(|x| x.to_le_bytes()).collect();
        for (bytes, share) in self.exchange(&bytes)?.iter().zip(shares) {
            let numbers = bytes.as_chunks::<4>().0;
            if numbers.len() != share.len() {
                return Err(CommError::Usage("shares of an all_gather differ".into()));
            }
            values[share.clone()].iter_mut().zip(numbers).for_each(|(to, x)| *to = f32::from_le_bytes(*x));
        }
        Ok(())
    }

    fn broadcast(&mut self, values: &mut [f32], root: usize) -> Result<(), CommError> {
        check_root(root, self.size())?;
        let (node, local) = (root / self.local.size(), root % self.local.size());
        if node == self.node {
            let result = self.local.broadcast(values, local);
            self.passed(result)?;
        }
        if let Some(between) = &mut self.between {
            let result = between.broadcast(values, node);
            self.passed(result)?;
        }
        let result = self.local.broadcast(values, 0);
        self.passed(result)
    }

    fn exchange(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        let own = self.local.exchange(bytes);
        let own = self.passed(own)?;
        let mut all = Vec::new();
        if let Some(between) = &mut self.between {
            let mut packed = Vec::new();
            for message in &own {
                packed.extend((message.len() as u64).to_le_bytes());
                packed.extend(message);
            }
            let result = between.exchange(&packed);
            all = self.passed(result)?.concat();
        }
        let result = self.local.exchange(&all);
        let packed = self.passed(result)?.swap_remove(0);
        let mut rest = &packed[..];
        let mut messages = Vec::with_capacity(self.size());
        while let Some((len, tail)) = rest.split_first_chunk::<8>() {
            let len = u64::from_le_bytes(*len) as usize;
            let Some((message, tail)) = tail.split_at_checked(len) else { break };
            messages.push(message.to_vec());
            rest = tail;
        }
        if messages.len() != self.size() {
            return Err(CommError::Usage(format!("{} messages came from {}", messages.len(), self.size())));
        }
        Ok(messages)
    }

    fn barrier(&mut self) -> Result<(), CommError> {
        self.exchange(&[]).map(drop)
    }

    fn abort(&self) -> Abort {
        self.abort.clone()
    }
}
