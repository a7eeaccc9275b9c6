//! Persistent state: the tensors that keep their values between steps, stored in groups.
//!
//! Parameters, gradients, optimizer moments, running statistics and data sets on the device are groups. A group is one
//! contiguous buffer in which each tensor starts at a multiple of [`ALIGN`] bytes. An optimizer step is therefore one
//! kernel over the group, an all-reduce transfers one range, and a checkpoint needs one read. The padding between
//! tensors is always zero.

use crate::shape::{DType, Shape, TensorType};

/// Alignment in bytes of each tensor of a group: the largest offset alignment that WebGPU allows a device to require.
pub const ALIGN: usize = 256;

/// Position of a group in its [`States`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub usize);

/// Identifies a tensor of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    /// Group that contains the tensor.
    pub group: GroupId,
    /// Index in [`Group::entries`].
    pub index: usize,
}

/// One tensor of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name, unique in the group, e.g. `body.0.linear.weight`.
    pub name: String,
    /// Shape of the tensor.
    pub shape: Shape,
    /// Position of the first element in the group, in elements.
    pub offset: usize,
}

/// Tensors of one element type in one buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Unique name, e.g. `parameters`.
    pub name: String,
    /// Element type of all tensors of the group.
    pub dtype: DType,
    /// The tensors in order of offset.
    pub entries: Vec<Entry>,
}

impl Group {
    /// Number of elements, padding included.
    pub fn len(&self) -> usize {
        self.entries.last().map_or(0, |e| e.offset + padded(e.shape.numel(), self.dtype))
    }

    /// Whether the group has no tensors.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Size of the buffer in bytes.
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype.bytes()
    }
}

fn padded(elements: usize, dtype: DType) -> usize {
    elements.next_multiple_of(ALIGN / dtype.bytes())
}

/// Layout of the persistent state that the programs of one model share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct States {
    groups: Vec<Group>,
}

impl States {
    /// Creates an empty state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an empty group.
    pub fn group(&mut self, name: impl Into<String>, dtype: DType) -> GroupId {
        self.groups.push(Group { name: name.into(), dtype, entries: Vec::new() });
        GroupId(self.groups.len() - 1)
    }

    /// Adds a group with the same tensors as `other`, e.g. one optimizer moment of each parameter.
    pub fn group_like(&mut self, name: impl Into<String>, other: GroupId) -> GroupId {
        let group = Group { name: name.into(), ..self.groups[other.0].clone() };
        self.groups.push(group);
        GroupId(self.groups.len() - 1)
    }

    /// Adds a tensor at the end of a group.
    pub fn entry(&mut self, group: GroupId, name: impl Into<String>, shape: impl Into<Shape>) -> EntryId {
        let offset = self.groups[group.0].len();
        let group_ref = &mut self.groups[group.0];
        group_ref.entries.push(Entry { name: name.into(), shape: shape.into(), offset });
        EntryId { group, index: group_ref.entries.len() - 1 }
    }

    /// All groups, in order of their ids.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Returns a group.
    pub fn get(&self, id: GroupId) -> &Group {
        &self.groups[id.0]
    }

    /// Returns a tensor of a group.
    pub fn get_entry(&self, id: EntryId) -> &Entry {
        &self.groups[id.group.0].entries[id.index]
    }

    /// Returns the element type and shape of a tensor.
    pub fn entry_type(&self, id: EntryId) -> TensorType {
        TensorType::new(self.get(id.group).dtype, self.get_entry(id).shape.clone())
    }

    /// Returns the id of the group with this name.
    pub fn find(&self, name: &str) -> Option<GroupId> {
        self.groups.iter().position(|g| g.name == name).map(GroupId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_aligned_and_groups_are_padded_at_the_end() {
        let mut states = States::new();
        let group = states.group("parameters", DType::F32);
        states.entry(group, "a", [3]);
        let b = states.entry(group, "b", [65]);
        assert_eq!(states.get_entry(b).offset, 64);
        assert_eq!(states.get(group).len(), 64 + 128);
        let moments = states.group_like("moments", group);
        assert_eq!(states.get(moments).entries, states.get(group).entries);
    }
}
