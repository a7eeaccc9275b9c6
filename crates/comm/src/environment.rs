//! Environment variables that MPI launchers set for the processes they start.

/// Rank, number of processes and launcher of a process that was started by mpirun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchInfo {
    /// Rank of this process, from 0; `None` if the launcher does not set it.
    pub rank: Option<usize>,
    /// Number of processes.
    pub size: usize,
    /// Launcher and MPI implementation, such as `mpirun (Open MPI)`.
    pub launcher: &'static str,
}

/// For each launcher: the variable with the number of processes, the variable with the rank, and the name of the
/// launcher.
const LAUNCHERS: [(&str, &str, &str); 3] = [
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "mpirun (Open MPI)"),
    ("PMI_SIZE", "PMI_RANK", "mpirun (MPICH)"),
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "mpirun (MVAPICH)"),
];

/// Returns the launch information of this process; `None` if mpirun did not start it. The number of processes may be 1.
pub fn launch_info() -> Option<LaunchInfo> {
    parse(|name| std::env::var(name).ok())
}

fn parse(variable: impl Fn(&str) -> Option<String>) -> Option<LaunchInfo> {
    let number = |name: &str| variable(name)?.parse::<usize>().ok();
    let info = |&(size, rank, launcher): &(&str, &str, &'static str)| {
        Some(LaunchInfo { size: number(size)?, rank: number(rank), launcher })
    };
    LAUNCHERS.iter().find_map(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launcher_variables_are_parsed() {
        let variables = |name: &str| match name {
            "OMPI_COMM_WORLD_SIZE" => Some("4".to_owned()),
            "OMPI_COMM_WORLD_RANK" => Some("2".to_owned()),
            _ => None,
        };
        let info = parse(variables).unwrap();
        assert_eq!((info.rank, info.size), (Some(2), 4));
        assert_eq!(parse(|_| None), None);
        assert_eq!(parse(|name| (name == "PMI_SIZE").then(|| "four".to_owned())), None);
    }
}
