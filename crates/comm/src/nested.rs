//! Teams of threads in several processes.

use std::fmt;
use std::ops::Range;

use crate::collective::{Abort, Collective, check_root, check_shares};
use crate::error::CommError;
use crate::local::Local;

/// A rank of a group of teams, such as the replicas of one of several nodes. What can be summed within a team is summed
/// there; then only the first member of each team, its leader, speaks with the other leaders.
///
/// Ranks count team by team: member m of team t is rank t · n + m, with n members in every team. So a sum has the
/// order of the ranks within a team, and the order of the leaders' group between teams.
pub struct Nested {
    local: Local,
    between: Option<Box<dyn Collective>>,
    team: usize,
    teams: usize,
}

impl Nested {
    /// Joins teams. Every member calls this; leaders, with rank 0 in their team, bring their rank `between` teams. Where
    /// there is one team only, nobody does.
    ///
    /// # Errors
    /// `Usage` if somebody else than a leader brings one or the teams are not equally large, and what `between` returns.
    pub fn new(mut local: Local, mut between: Option<Box<dyn Collective>>) -> Result<Self, CommError> {
        // What each member has to say before they rely on one another: whether it has a rank between teams.
        let brought = local.exchange(&[u8::from(between.is_some())])?;
        if let Some(member) = (1..local.size()).find(|&member| brought[member] != [0]) {
            let message =
                format!("replica {member} brings a rank between nodes, which is for replica 0 only");
            return Err(CommError::Usage(message));
        }
        let outcome = between.as_deref_mut().map(|between| meet_leaders(&local, between));
        if let (Some(Ok((team, _))), Some(between)) = (&outcome, between.as_deref()) {
            local.belongs_to(between.abort(), team * local.size());
        }
        let (team, teams) = match outcome {
            Some(Err(error)) => {
                // The others of the team hear why; that their call fails as well is no news.
                let leader = local.rank();
                local.ended_outside(leader, exit_code(&error), &error.to_string());
                return Err(error);
            }
            Some(Ok(place)) => share_place(&mut local, Some(place))?,
            None => share_place(&mut local, None)?,
        };
        Ok(Self { local, between, team, teams })
    }

    /// Lets the leader make a call between teams. If it fails, the others of the team need not wait for what follows.
    fn lead(
        &mut self,
        call: impl FnOnce(&mut dyn Collective) -> Result<(), CommError>,
    ) -> Result<(), CommError> {
        let Some(between) = self.between.as_deref_mut() else { return Ok(()) };
        let error = match call(between) {
            Ok(()) => return Ok(()),
            // A leader stands for its team: who of it did this is in the message.
            Err(CommError::Aborted { rank, code, message }) => {
                CommError::Aborted { rank: rank * self.local.size(), code, message }
            }
            Err(error) => error,
        };
        match &error {
            CommError::Aborted { rank, code, message } => self.local.ended_outside(*rank, *code, message),
            other => {
                let leader = self.team * self.local.size();
                self.local.ended_outside(leader, exit_code(other), &other.to_string());
            }
        }
        Err(error)
    }

    /// The shares of whole teams, which are contiguous as ranks count team by team.
    fn team_shares(&self, shares: &[Range<usize>]) -> Vec<Range<usize>> {
        let teams = shares.chunks(self.local.size());
        teams.map(|team| team[0].start..team[team.len() - 1].end).collect()
    }
}

impl Collective for Nested {
    fn rank(&self) -> usize {
        self.team * self.local.size() + self.local.rank()
    }

    fn size(&self) -> usize {
        self.teams * self.local.size()
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<(), CommError> {
        self.local.all_reduce(values)?;
        if self.teams == 1 {
            return Ok(());
        }
        self.lead(|between| between.all_reduce(values))?;
        self.local.broadcast(values, 0)
    }

    fn reduce_scatter(&mut self, values: &mut [f32], shares: &[Range<usize>]) -> Result<(), CommError> {
        check_shares(shares, self.size(), values.len())?;
        if self.teams == 1 {
            return self.local.reduce_scatter(values, shares);
        }
        self.local.all_reduce(values)?;
        let of_teams = self.team_shares(shares);
        self.lead(|between| between.reduce_scatter(values, &of_teams))?;
        self.local.broadcast(&mut values[of_teams[self.team].clone()], 0)
    }

    fn all_gather(&mut self, values: &mut [f32], shares: &[Range<usize>]) -> Result<(), CommError> {
        check_shares(shares, self.size(), values.len())?;
        if self.teams == 1 {
            return self.local.all_gather(values, shares);
        }
        let of_teams = self.team_shares(shares);
        let of_team = of_teams[self.team].clone();
        let members = self.local.size();
        let of_members: Vec<_> = shares[self.team * members..][..members]
            .iter()
            .map(|share| share.start - of_team.start..share.end - of_team.start)
            .collect();
        self.local.all_gather(&mut values[of_team], &of_members)?;
        self.lead(|between| between.all_gather(values, &of_teams))?;
        self.local.broadcast(values, 0)
    }

    fn broadcast(&mut self, values: &mut [f32], root: usize) -> Result<(), CommError> {
        check_root(root, self.size())?;
        let (team, member) = (root / self.local.size(), root % self.local.size());
        if self.teams == 1 {
            return self.local.broadcast(values, member);
        }
        if team == self.team && member != 0 {
            self.local.broadcast(values, member)?;
        }
        self.lead(|between| between.broadcast(values, team))?;
        self.local.broadcast(values, 0)
    }

    fn exchange(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        let of_team = self.local.exchange(bytes)?;
        if self.teams == 1 {
            return Ok(of_team);
        }
        let mut of_all = Vec::new();
        self.lead(|between| {
            of_all = between.exchange(&pack(&of_team))?.concat();
            Ok(())
        })?;
        let of_all = self.local.exchange(&of_all)?.swap_remove(0);
        unpack(&of_all, self.size())
    }

    fn barrier(&mut self) -> Result<(), CommError> {
        self.local.barrier()?;
        if self.teams == 1 {
            return Ok(());
        }
        self.lead(|between| between.barrier())?;
        self.local.barrier()
    }

    fn abort(&self) -> Abort {
        self.local.abort()
    }
}

impl fmt::Debug for Nested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nested({} of {}, team {} of {})", self.rank(), self.size(), self.team, self.teams)
    }
}

/// The exit code of those who hear of an error of their leader's.
fn exit_code(error: &CommError) -> u8 {
    match error {
        CommError::Aborted { code, .. } => *code,
        CommError::Usage(_) | CommError::Alone { .. } => 2,
        CommError::Timeout { .. } | CommError::Mpi { .. } | CommError::Closed => 7,
    }
}

/// The number of this team and that of all, after all leaders have compared the sizes of their teams.
fn meet_leaders(local: &Local, between: &mut dyn Collective) -> Result<(usize, usize), CommError> {
    let sizes = between.exchange(&(local.size() as u64).to_le_bytes())?;
    let sizes: Vec<u64> = sizes.iter().map(|bytes| number(bytes)).collect::<Result<_, _>>()?;
    if sizes.iter().any(|&size| size != local.size() as u64) {
        let message = format!("the nodes must have equally many replicas, and have {sizes:?}");
        return Err(CommError::Usage(message));
    }
    Ok((between.rank(), between.size()))
}

/// What the leader knows, for all of its team.
fn share_place(local: &mut Local, place: Option<(usize, usize)>) -> Result<(usize, usize), CommError> {
    let (team, teams) = place.unwrap_or((0, 1));
    let bytes = [(team as u64).to_le_bytes(), (teams as u64).to_le_bytes()].concat();
    let leaders = local.exchange(&bytes)?.swap_remove(0);
    let (team, teams) = leaders.split_at(size_of::<u64>());
    Ok((number(team)? as usize, number(teams)? as usize))
}

/// Messages in a row, each after its length.
fn pack(messages: &[Vec<u8>]) -> Vec<u8> {
    let with_length =
        |message: &Vec<u8>| [&(message.len() as u64).to_le_bytes(), message.as_slice()].concat();
    messages.iter().flat_map(with_length).collect()
}

fn unpack(mut bytes: &[u8], messages: usize) -> Result<Vec<Vec<u8>>, CommError> {
    let torn = || CommError::Usage("messages that were exchanged came torn".into());
    let mut unpacked = Vec::with_capacity(messages);
    for _ in 0..messages {
        let (length, rest) = bytes.split_at_checked(size_of::<u64>()).ok_or_else(torn)?;
        let (message, rest) = rest.split_at_checked(number(length)? as usize).ok_or_else(torn)?;
        unpacked.push(message.to_vec());
        bytes = rest;
    }
    if bytes.is_empty() { Ok(unpacked) } else { Err(torn()) }
}

fn number(bytes: &[u8]) -> Result<u64, CommError> {
    let bytes = bytes.try_into().map_err(|_| CommError::Usage("a number came torn".into()))?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_pack_and_torn_ones_are_found() {
        let messages = vec![vec![1, 2, 3], vec![], vec![9; 300]];
        let packed = pack(&messages);
        assert_eq!(unpack(&packed, 3).unwrap(), messages);
        for end in [0, 5, packed.len() - 1] {
            assert!(matches!(unpack(&packed[..end], 3), Err(CommError::Usage(_))), "{end}");
        }
        assert!(unpack(&packed, 2).is_err());
    }
}
