//! Interpreter of the pickles that `torch.save` writes: protocol 2, limited to the opcodes that dicts of tensors need.
//!
//! The interpreter executes no code from the file. The pickle becomes a list of nodes that refer to each other by
//! index. Parsing is not recursive, so deep nesting cannot overflow the stack. A node may contain itself. Each byte of
//! the pickle creates at most one node.

use super::globals::{self, Global};
use super::view::{Storage, View};
use crate::WeightsError;
use std::collections::HashMap;
use std::path::Path;

/// Index of a node in [`Pickle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(u32);

/// A value in a pickle. Containers hold the indices of their items.
#[derive(Debug)]
pub(super) enum Node<'a> {
    None,
    Bool,
    Int(i64),
    Float,
    Text(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Storage<'a>),
    Tensor(Box<View<'a>>),
    /// A value that tensors do not need, such as a device or an integer of more than 64 bits.
    Other,
}

/// A parsed pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    /// Index of the node of the saved object.
    pub root: Id,
}

/// Maximum number of dimensions, as in PyTorch. Without a limit, many tensors could each copy one very long tuple of
/// sizes.
const MAX_DIMENSIONS: usize = 64;
/// Maximum number of nodes. Checkpoints of large models have about ten thousand. The limit stops files that are made to
/// exhaust memory.
const MAX_NODES: usize = 1 << 22;

impl<'a> Pickle<'a> {
    /// Parses the pickle `bytes` of the file `path`.
    pub fn parse(path: &Path, bytes: &'a [u8]) -> Result<Self, WeightsError> {
        let mut interpreter = Interpreter {
            path,
            bytes,
            position: 0,
            opcode_at: 0,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        loop {
            if let Some(root) = interpreter.execute_next()? {
                return Ok(Self { nodes: interpreter.nodes, root });
            }
        }
    }

    pub fn node(&self, id: Id) -> &Node<'a> {
        &self.nodes[id.0 as usize]
    }
}

struct Interpreter<'a, 'p> {
    path: &'p Path,
    bytes: &'a [u8],
    position: usize,
    /// Position of the current opcode in the pickle, in bytes, for error messages.
    opcode_at: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    /// Stack height at each mark. Nothing below the last mark is popped.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Interpreter<'a, '_> {
    /// Executes one opcode. Returns the saved object after the last opcode, STOP.
    fn execute_next(&mut self) -> Result<Option<Id>, WeightsError> {
        self.opcode_at = self.position;
        let [opcode] = self.read_array()?;
        match opcode {
            // PROTO
            0x80 => match self.read_array()? {
                [0..=2] => {}
                [protocol] => return Err(self.unsupported(format!("pickle protocol {protocol}"))),
            },
            // STOP
            b'.' => {
                let root = self.pop()?;
                return match self.stack.is_empty() && self.marks.is_empty() {
                    true => Ok(Some(root)),
                    false => Err(self.damaged("an end with unused values")),
                };
            }
            // MARK
            b'(' => self.marks.push(self.stack.len()),
            b'N' | 0x88 | 0x89 | b'J' | b'K' | b'M' | 0x8a | b'G' | b'X' | b'T' | b'U' => {
                let node = self.read_literal(opcode)?;
                self.push(node)?;
            }
            b')' | b't' | 0x85..=0x87 | b']' | b'a' | b'e' | b'}' | b's' | b'u' => {
                self.build_container(opcode)?
            }
            // BINPUT, LONG_BINPUT, BINGET, LONG_BINGET
            b'q' | b'h' => {
                let slot = u8::from_le_bytes(self.read_array()?);
                if opcode == b'q' { self.store_memo(slot.into())? } else { self.load_memo(slot.into())? }
            }
            b'r' | b'j' => {
                let slot = u32::from_le_bytes(self.read_array()?);
                if opcode == b'r' { self.store_memo(slot)? } else { self.load_memo(slot)? }
            }
            // GLOBAL
            b'c' => {
                let global = self.read_global()?;
                self.push(Node::Global(global))?;
            }
            // BINPERSID, REDUCE, BUILD
            b'Q' => {
                let id = self.pop()?;
                let storage =
                    self.storage(id).ok_or_else(|| self.damaged("an invalid reference to a storage"))?;
                self.push(Node::Storage(storage))?;
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.call(function, arguments)?;
            }
            b'b' => {
                // With BUILD, a state dict stores the versions of its layers. The versions do not affect tensors.
                self.pop()?;
                self.top_dict()?;
            }
            opcode => return Err(self.unsupported(format!("the opcode {opcode:#04x}"))),
        }
        Ok(None)
    }

    /// Reads the literal that follows `opcode`.
    fn read_literal(&mut self, opcode: u8) -> Result<Node<'a>, WeightsError> {
        Ok(match opcode {
            // NONE, NEWTRUE, NEWFALSE
            b'N' => Node::None,
            0x88 | 0x89 => Node::Bool,
            // BININT, BININT1, BININT2, LONG1
            b'J' => Node::Int(i32::from_le_bytes(self.read_array()?).into()),
            b'K' => Node::Int(u8::from_le_bytes(self.read_array()?).into()),
            b'M' => Node::Int(u16::from_le_bytes(self.read_array()?).into()),
            0x8a => {
                let [length] = self.read_array()?;
                parse_integer(self.read(length.into())?)
            }
            // BINFLOAT
            b'G' => {
                self.read(size_of::<f64>())?;
                Node::Float
            }
            // BINUNICODE
            b'X' => {
                let text = self.read_counted()?;
                Node::Text(std::str::from_utf8(text).map_err(|_| self.damaged("a text that is not UTF-8"))?)
            }
            // SHORT_BINSTRING, BINSTRING: byte strings of Python 2, which are neither names nor numbers.
            b'U' => {
                let [length] = self.read_array()?;
                self.read(length.into())?;
                Node::Other
            }
            _ => {
                self.read_counted()?;
                Node::Other
            }
        })
    }

    /// Builds a tuple, list or dict from the stack, or adds items to a list or dict.
    fn build_container(&mut self, opcode: u8) -> Result<(), WeightsError> {
        match opcode {
            // EMPTY_TUPLE, TUPLE, TUPLE1, TUPLE2, TUPLE3
            b')' => self.push(Node::Tuple(Vec::new())),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Node::Tuple(items))
            }
            0x85..=0x87 => {
                let mut items = Vec::with_capacity(3);
                for _ in 0x85..=opcode {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.push(Node::Tuple(items))
            }
            // EMPTY_LIST, APPEND, APPENDS
            b']' => self.push(Node::List(Vec::new())),
            b'a' => {
                let item = self.pop()?;
                self.top_list()?.push(item);
                Ok(())
            }
            b'e' => {
                let mut items = self.pop_to_mark()?;
                self.top_list()?.append(&mut items);
                Ok(())
            }
            // EMPTY_DICT, SETITEM, SETITEMS
            b'}' => self.push(Node::Dict(Vec::new())),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.top_dict()?.push((key, value));
                Ok(())
            }
            _ => {
                let items = self.pop_to_mark()?;
                let (pairs, rest) = items.as_chunks::<2>();
                if !rest.is_empty() {
                    return Err(self.damaged("a key without a value"));
                }
                self.top_dict()?.extend(pairs.iter().map(|[key, value]| (*key, *value)));
                Ok(())
            }
        }
    }

    fn read_global(&mut self) -> Result<Global, WeightsError> {
        let (module, name) = (self.read_line()?, self.read_line()?);
        globals::find(module, name).ok_or_else(|| WeightsError::Global {
            path: self.path.to_owned(),
            global: format!("{module}.{name}"),
            reason: globals::rejection_reason(module, name),
        })
    }

    /// Executes REDUCE: applies one of the supported functions to its arguments and pushes the result.
    fn call(&mut self, function: Id, arguments: Id) -> Result<(), WeightsError> {
        let Node::Global(global) = *self.node(function) else {
            return Err(self.damaged("a call of a value that is not a function"));
        };
        let Node::Tuple(arguments) = self.node(arguments) else {
            return Err(self.damaged("a call without a tuple of arguments"));
        };
        let result = match (global, arguments.as_slice()) {
            (Global::OrderedDict, []) => Some(Node::Dict(Vec::new())),
            (Global::RebuildTensor, [storage, offset, shape, strides, ..]) => {
                self.view(*storage, *offset, *shape, *strides).map(|view| Node::Tensor(Box::new(view)))
            }
            (Global::RebuildParameter, [tensor, ..]) => match self.node(*tensor) {
                Node::Tensor(view) => Some(Node::Tensor(view.clone())),
                _ => None,
            },
            (Global::Size, [sizes]) => self.sizes(*sizes).map(|_| Node::Other),
            (Global::Device, _) => Some(Node::Other),
            _ => None,
        };
        match result {
            Some(node) => self.push(node),
            None => Err(self.damaged(&format!("wrong arguments for {global:?}"))),
        }
    }

    /// Parses a reference to a storage: the tuple `("storage", type, key, device, number of elements)`. Returns `None`
    /// if the node is not such a tuple.
    fn storage(&self, id: Id) -> Option<Storage<'a>> {
        let Node::Tuple(items) = self.node(id) else { return None };
        let [kind, element, key, _device, len] = items[..] else { return None };
        match (self.node(kind), self.node(element), self.node(key)) {
            (Node::Text("storage"), Node::Global(Global::Storage(element)), Node::Text(key)) => {
                Some(Storage { element: *element, key, len: self.size(len)? })
            }
            _ => None,
        }
    }

    /// Parses the arguments of `_rebuild_tensor_v2`. Arguments after the strides do not affect the elements. Returns
    /// `None` if an argument is invalid.
    fn view(&self, storage: Id, offset: Id, shape: Id, strides: Id) -> Option<View<'a>> {
        let Node::Storage(storage) = *self.node(storage) else { return None };
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        Some(View { storage, offset: self.size(offset)?, shape, strides })
    }

    fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        let Node::Tuple(sizes) = self.node(id) else { return None };
        if sizes.len() > MAX_DIMENSIONS {
            return None;
        }
        sizes.iter().map(|size| self.size(*size)).collect()
    }

    /// Returns the value of an integer node, or `None` if the node is not a non-negative integer.
    fn size(&self, id: Id) -> Option<usize> {
        match self.node(id) {
            Node::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    fn node(&self, id: Id) -> &Node<'a> {
        &self.nodes[id.0 as usize]
    }

    fn push(&mut self, node: Node<'a>) -> Result<(), WeightsError> {
        if self.nodes.len() >= MAX_NODES {
            return Err(self.damaged(&format!("more than {MAX_NODES} values")));
        }
        self.stack.push(Id(self.nodes.len() as u32));
        self.nodes.push(node);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id, WeightsError> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        match self.stack.len() > bottom {
            true => self.stack.pop().ok_or_else(|| self.damaged("an empty stack")),
            false => Err(self.damaged("an empty stack")),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, WeightsError> {
        let mark = self.marks.pop().ok_or_else(|| self.damaged("no mark"))?;
        // `split_off` is not used, because it may keep the capacity of the whole stack in each of many empty tuples.
        Ok(self.stack.drain(mark..).collect())
    }

    fn top(&self) -> Result<Id, WeightsError> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        let top = self.stack.get(bottom..).and_then(<[Id]>::last);
        top.copied().ok_or_else(|| self.damaged("an empty stack"))
    }

    fn top_list(&mut self) -> Result<&mut Vec<Id>, WeightsError> {
        let top = self.top()?;
        let (path, at) = (self.path, self.opcode_at);
        match &mut self.nodes[top.0 as usize] {
            Node::List(items) => Ok(items),
            _ => Err(damaged(path, at, "a value that is not a list where a list is needed")),
        }
    }

    fn top_dict(&mut self) -> Result<&mut Vec<(Id, Id)>, WeightsError> {
        let top = self.top()?;
        let (path, at) = (self.path, self.opcode_at);
        match &mut self.nodes[top.0 as usize] {
            Node::Dict(entries) => Ok(entries),
            _ => Err(damaged(path, at, "a value that is not a dict where a dict is needed")),
        }
    }

    /// Stores the top of the stack in a memo slot.
    fn store_memo(&mut self, slot: u32) -> Result<(), WeightsError> {
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    /// Pushes the value of a memo slot onto the stack.
    fn load_memo(&mut self, slot: u32) -> Result<(), WeightsError> {
        let id = self.memo.get(&slot).ok_or_else(|| self.damaged("a reference to an unset memo slot"))?;
        self.stack.push(*id);
        Ok(())
    }

    fn read(&mut self, count: usize) -> Result<&'a [u8], WeightsError> {
        let bytes = self.bytes.get(self.position..).and_then(|rest| rest.get(..count));
        let bytes = bytes.ok_or_else(|| self.damaged("an unexpected end"))?;
        self.position += count;
        Ok(bytes)
    }

    fn read_array<const N: usize>(&mut self) -> Result<[u8; N], WeightsError> {
        let bytes = self.read(N)?;
        bytes.try_into().map_err(|_| self.damaged("an unexpected end"))
    }

    /// Reads a u32 count, followed by that number of bytes.
    fn read_counted(&mut self) -> Result<&'a [u8], WeightsError> {
        let count = u32::from_le_bytes(self.read_array()?);
        self.read(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn read_line(&mut self) -> Result<&'a str, WeightsError> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n');
        let line = self.read(end.unwrap_or(rest.len()))?;
        self.read(1)?;
        std::str::from_utf8(line).map_err(|_| self.damaged("a name that is not UTF-8"))
    }

    fn damaged(&self, what: &str) -> WeightsError {
        damaged(self.path, self.opcode_at, what)
    }

    fn unsupported(&self, what: String) -> WeightsError {
        let message = format!(
            "its pickle has {what} at byte {}, which `torch.save` does not use for tensors; save \
             `model.state_dict()` with the defaults",
            self.opcode_at
        );
        WeightsError::Unsupported { path: self.path.to_owned(), message }
    }
}

fn damaged(path: &Path, at: usize, what: &str) -> WeightsError {
    WeightsError::Damaged { path: path.to_owned(), message: format!("its pickle has {what} at byte {at}") }
}

/// Parses a little-endian two's complement integer of any length. An integer of more than 64 bits becomes
/// [`Node::Other`].
fn parse_integer(bytes: &[u8]) -> Node<'static> {
    if bytes.len() > size_of::<i64>() {
        return Node::Other;
    }
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut value = if negative { [0xff; 8] } else { [0; 8] };
    value[..bytes.len()].copy_from_slice(bytes);
    Node::Int(i64::from_le_bytes(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_any_length_keep_their_sign() {
        let value = |bytes: &[u8]| match parse_integer(bytes) {
            Node::Int(value) => Some(value),
            _ => None,
        };
        assert_eq!(value(&[]), Some(0));
        assert_eq!(value(&[0xff]), Some(-1));
        assert_eq!(value(&[0xff, 0]), Some(255));
        assert_eq!(value(&[0, 0x80]), Some(-32768));
        assert_eq!(value(&i64::MIN.to_le_bytes()), Some(i64::MIN));
        assert_eq!(value(&[0; 9]), None);
    }
}
