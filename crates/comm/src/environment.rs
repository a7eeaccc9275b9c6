//! What the environment says of who started this process.

/// A process that an MPI launcher started as one of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launched {
    /// Its number, from 0, where the launcher says it.
    pub rank: Option<usize>,
    /// How many there are.
    pub size: usize,
    /// What started it.
    pub launcher: &'static str,
}

/// Names of the variables with size and rank, and who sets them.
const LAUNCHERS: [(&str, &str, &str); 3] = [
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "mpirun (Open MPI)"),
    ("PMI_SIZE", "PMI_RANK", "mpirun (MPICH)"),
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "mpirun (MVAPICH)"),
];

/// Who started this process as one of several, even of one; `None` for a process by itself.
pub fn environment() -> Option<Launched> {
    launched(|name| std::env::var(name).ok())
}

fn launched(variable: impl Fn(&str) -> Option<String>) -> Option<Launched> {
    let number = |name: &str| variable(name)?.parse::<usize>().ok();
    let found = |&(size, rank, launcher): &(&str, &str, &'static str)| {
        Some(Launched { size: number(size)?, rank: number(rank), launcher })
    };
    LAUNCHERS.iter().find_map(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_launchers_are_read() {
        let variables = |name: &str| match name {
            "OMPI_COMM_WORLD_SIZE" => Some("4".to_owned()),
            "OMPI_COMM_WORLD_RANK" => Some("2".to_owned()),
            _ => None,
        };
        let found = launched(variables).unwrap();
        assert_eq!((found.rank, found.size), (Some(2), 4));
        assert_eq!(launched(|_| None), None);
        assert_eq!(launched(|name| (name == "PMI_SIZE").then(|| "four".to_owned())), None);
    }
}
