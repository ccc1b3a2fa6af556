//! What a model is, takes and gives, for people.

use std::fmt;

use crate::exported::Batch;

/// A description of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The kind of model, and who made it.
    pub kind: String,
    /// Its inputs.
    pub inputs: Vec<Port>,
    /// The input that is the query; none: it is not known.
    pub query: Option<String>,
    /// The numbers of rows that it computes at a time.
    pub batch: Batch,
    /// Its outputs.
    pub outputs: Vec<Port>,
    /// The number of parameters.
    pub parameters: u64,
    /// The tensors that they are in.
    pub tensors: usize,
    /// Why it cannot be trained; none: it can.
    pub obstacle: Option<String>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name; empty: it has none.
    pub name: String,
    /// Its type and shape, as `f4[rows, 10]`.
    pub layout: String,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            f.write_str(&self.layout)
        } else {
            write!(f, "{} {}", self.name, self.layout)
        }
    }
}

impl fmt::Display for Summary {
    /// One property a line: its name, two spaces or more, its value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |ports: &[Port]| ports.iter().map(Port::to_string).collect::<Vec<_>>().join(", ");
        writeln!(f, "kind        {}", self.kind)?;
        writeln!(f, "inputs      {}", all(&self.inputs))?;
        writeln!(f, "query       {}", self.query.as_deref().unwrap_or("to be named (--input)"))?;
        writeln!(f, "batch       {}", self.batch)?;
        writeln!(f, "outputs     {}", all(&self.outputs))?;
        writeln!(f, "parameters  {} in {}", self.parameters, parm::counted(self.tensors as u64, "tensor"))?;
        match &self.obstacle {
            None => writeln!(f, "trainable   yes"),
            Some(obstacle) => writeln!(f, "trainable   no: {obstacle}"),
        }
    }
}
