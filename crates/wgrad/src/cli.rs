//! Command-line arguments of all commands.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use wgrad_cluster::Link;
use wgrad_train::DeviceChoice;

/// Train neural networks on any GPU with a Vulkan, Metal or DX12 driver, or on the CPU.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100)]
#[command(
    after_help = "Start with:  wgrad train digits\n\nEnvironment: WGPU_BACKEND, WGPU_ADAPTER_NAME, WGRAD_DATA, \
    WGRAD_DATA_MIRROR, NO_COLOR, RUST_LOG.\nExit codes: 2 usage or recipe, 3 data, 4 device, 5 numeric, 6 checkpoint or \
    run directory, 7 other replicas, 130 interrupted."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a recipe: a built-in one by name, or a TOML file.
    Train(Train),
    /// Train with several MPI ranks on one or more machines.
    Launch(Launch),
    /// Evaluate the last checkpoint of a run on its test or validation data.
    Eval(Eval),
    /// Apply the last checkpoint of a run to files of examples.
    Predict(Predict),
    /// Show layers, parameters, FLOPs, memory and kernels of a recipe, or of a network such as resnet50.
    Summary(Summary),
    /// List the devices that can train.
    Devices(Devices),
    /// Time all kernels for the matrix products of a recipe on a GPU. Later runs use the fastest kernels.
    Tune(Tune),
    /// Write the weights of a run as safetensors, under PyTorch's names.
    Export(Export),
    /// Run an experiment that trains several networks, and write a page about it.
    Study(Study),
    /// Benchmark the devices of this machine: peak rates, kernels, training steps.
    Bench(Bench),
    /// Predict step time and efficiency of data-parallel training on clusters.
    Cluster(Cluster),
    /// Report on compute scaling: its history, this machine's rates, and scaling laws measured here.
    Scale(Scale),
    /// Check every operation on the devices of this machine against the f64 reference.
    Verify(Verify),
    /// List and fetch data sets.
    Data(Data),
    /// List and print the built-in recipes, or print the JSON Schema of recipes.
    #[command(name = "recipe")]
    RecipeFile(RecipeFile),
}

fn recipe_help() -> String {
    let names: Vec<&str> = wgrad_recipe::builtin_names().collect();
    format!("Name of a built-in recipe ({}), or path of a TOML file", names.join(", "))
}

#[derive(Debug, Args)]
pub struct Recipe {
    #[arg(help = recipe_help())]
    pub recipe: String,
    /// Set a field of the recipe, e.g. --set train.epochs=5.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Train {
    #[command(flatten)]
    pub recipe: Recipe,
    /// auto, cpu, gpu or gpu:N. auto selects the best GPU, or the CPU if there is none.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Run directory. Default: runs/<recipe>-<time>.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Resume the run in --out, or the last run of the recipe.
    #[arg(long)]
    pub resume: bool,
    /// Weights to start from: a safetensors or PyTorch file, or a run directory. Sets transfer.weights.
    #[arg(long, value_name = "WEIGHTS", conflicts_with = "resume")]
    pub init: Option<PathBuf>,
    /// Write a timeline of a few steps, with the time of each kernel, for ui.perfetto.dev. Default: <run>/profile.json.
    /// Put RECIPE before this option, because the argument after it is read as FILE.
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub profile: Option<Option<PathBuf>>,
    /// Number of steps to profile, after the warm-up steps.
    #[arg(long, value_name = "N", requires = "profile", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub profile_steps: u64,
    /// Train with N replicas in this process, which divide each batch. Uses N GPUs if available; otherwise replicas
    /// share the devices found.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_replicas, help_heading = "Replicas")]
    pub replicas: usize,
    /// State to divide among the replicas. `optimizer` is ZeRO stage 1.
    #[arg(long, value_name = "WHAT", help_heading = "Replicas")]
    pub shard: Option<Shard>,
    /// Use train.batch as the batch of each replica: multiply batch and learning rate by the number of replicas, with a
    /// warm-up of five epochs (Goyal et al. 2017).
    #[arg(long, conflicts_with = "resume", help_heading = "Replicas")]
    pub scale_batch: bool,
    /// Size of a gradient bucket, in megabytes.
    #[arg(long, value_name = "MB", default_value_t = 25.0, value_parser = parse_megabytes, help_heading = "Replicas")]
    pub bucket_mb: f64,
    /// Seconds that a replica waits for the others in a step before the run fails.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Replicas")]
    pub comm_timeout: u64,
    /// Fault injection for tests: replica RANK panics after STEP.
    #[arg(long, hide = true, value_name = "RANK:STEP", value_parser = parse_panic, help_heading = "Replicas")]
    pub panic_at: Option<(usize, u64)>,
    /// Print one JSON object as the last line of stdout.
    #[arg(long)]
    pub json: bool,
}

/// State that can be divided among replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shard {
    Optimizer,
}

fn parse_replicas(text: &str) -> Result<usize, String> {
    let replicas = text.parse().ok().filter(|replicas| (1..=256).contains(replicas));
    replicas.ok_or_else(|| "expected a number of replicas from 1 to 256".into())
}

fn parse_panic(text: &str) -> Result<(usize, u64), String> {
    let parsed = text.split_once(':').and_then(|(rank, step)| Some((rank.parse().ok()?, step.parse().ok()?)));
    parsed.ok_or_else(|| "expected RANK:STEP, e.g. 1:20".into())
}

fn parse_megabytes(text: &str) -> Result<f64, String> {
    let megabytes = text.parse().ok().filter(|&mb: &f64| mb > 0.0 && mb <= 1e6);
    megabytes.ok_or_else(|| "expected a size in megabytes above 0, at most 1000000".into())
}

#[derive(Debug, Args)]
pub struct Launch {
    /// Number of ranks.
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_replicas)]
    pub ranks: usize,
    /// Open MPI hostfile with the machines; without it, all ranks run on this machine.
    #[arg(long, value_name = "FILE")]
    pub hosts: Option<PathBuf>,
    /// Maximum number of restarts of a failed job from its last checkpoint.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub restarts: u32,
    /// Seconds after which an unfinished job is killed.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub deadline: Option<u64>,
    /// Algorithm that sums the gradients. Bit-exact resume requires the same algorithm in every run.
    #[arg(long, value_name = "ALGORITHM", default_value = "ring")]
    pub all_reduce: AllReduce,
    /// The mpirun program that starts the ranks.
    #[arg(long, value_name = "PATH", default_value = "mpirun")]
    pub mpirun: PathBuf,
    /// Additional arguments for mpirun, e.g. --mpi-arg="--mca btl_tcp_if_include eth1"; may be repeated.
    #[arg(long = "mpi-arg", value_name = "ARGS", allow_hyphen_values = true)]
    pub mpi_args: Vec<String>,
    /// Training command: `train` and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "train …")]
    pub command: Vec<String>,
}

/// All-reduce algorithm of Open MPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AllReduce {
    /// Segmented ring: best for large gradients.
    Ring,
    /// Recursive doubling: best for small gradients.
    RecursiveDoubling,
    /// Recursive halving, then doubling (Rabenseifner).
    Rabenseifner,
    /// Algorithm chosen by Open MPI for each message size.
    Auto,
}

#[derive(Debug, Args)]
pub struct Export {
    /// Run directory.
    pub run: PathBuf,
    /// File to write. Default: RUN/weights.safetensors.
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Study {
    #[command(subcommand)]
    pub command: StudyCommand,
}

#[derive(Debug, Subcommand)]
pub enum StudyCommand {
    /// Compare plain with residual networks of increasing depth, and sigmoid with ReLU perceptrons.
    Depth(DepthArgs),
}

#[derive(Debug, Args)]
pub struct DepthArgs {
    /// Data to train on: fashion-mnist, cifar-10, mnist or digits.
    #[arg(long, default_value = "fashion-mnist")]
    pub data: String,
    /// Depths of the networks, each of the form 6n + 2.
    #[arg(long, value_delimiter = ',', default_values_t = [8, 20, 32, 44])]
    pub depths: Vec<usize>,
    /// Random seeds; each network is trained once per seed.
    #[arg(long, value_delimiter = ',', default_values_t = [0])]
    pub seeds: Vec<u64>,
    /// Number of optimizer steps for each network.
    #[arg(long, default_value_t = 240)]
    pub steps: u64,
    /// Number of examples per step.
    #[arg(long, default_value_t = 64)]
    pub batch: usize,
    /// Number of channels in the first stage.
    #[arg(long, default_value_t = 8)]
    pub width: usize,
    /// Peak learning rate of SGD with momentum 0.9.
    #[arg(long, default_value_t = 0.1)]
    pub lr: f64,
    /// Number of training examples. They have the same class proportions as the data set.
    #[arg(long, default_value_t = 8000)]
    pub examples: usize,
    /// Skip the deep sigmoid and ReLU perceptrons.
    #[arg(long)]
    pub without_sigmoid: bool,
    /// auto, cpu, gpu or gpu:N.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Folder for depth.html and depth.json.
    #[arg(long, value_name = "DIR", default_value = "studies/depth")]
    pub out: PathBuf,
    /// Print the JSON object of the study as the last line of stdout.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Eval {
    /// Run directory.
    pub run: PathBuf,
    /// Split to evaluate: test or validation.
    #[arg(long, default_value = "test")]
    pub split: Split,
    /// auto, cpu, gpu or gpu:N.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Print one JSON object as the last line of stdout.
    #[arg(long)]
    pub json: bool,
}

/// Split of the data that can be evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Split {
    Test,
    Validation,
}

#[derive(Debug, Args)]
pub struct Predict {
    /// Run directory.
    pub run: PathBuf,
    /// CSV or idx files of raw values, as in the training data, plain or gzipped; JPEG and PNG files.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// auto, cpu, gpu or gpu:N.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Print a JSON list with an object for each example.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Summary {
    #[command(flatten)]
    pub recipe: Recipe,
    /// Device to plan for: auto, cpu, gpu or gpu:N.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Print one JSON object as the last line of stdout.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Devices {
    /// Print a JSON list.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Tune {
    #[arg(help = recipe_help(), required_unless_present_any = ["shapes", "clear"])]
    pub recipe: Option<String>,
    /// Set a field of the recipe, e.g. --set train.batch=512.
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "recipe")]
    pub set: Vec<String>,
    /// Matrix products to tune instead of those of a recipe, e.g. --shapes 512,512,64 for 512×64 by 64×512; may be
    /// repeated.
    #[arg(long, value_name = "M,N,K", conflicts_with = "recipe")]
    pub shapes: Vec<Product>,
    /// Device to tune: gpu or gpu:N.
    #[arg(long, default_value = "gpu")]
    pub device: DeviceChoice,
    /// Remove the tuning table of the device.
    #[arg(long, conflicts_with_all = ["recipe", "shapes", "set"])]
    pub clear: bool,
    /// Print one JSON object as the last line of stdout.
    #[arg(long)]
    pub json: bool,
}

/// Sizes of a matrix product: `[m, k]` by `[k, n]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

impl FromStr for Product {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes: Result<Vec<usize>, _> = text.split(',').map(|size| size.trim().parse()).collect();
        match sizes.as_deref() {
            Ok(&[m, n, k]) if [m, n, k].iter().all(|size| (1..=1 << 16).contains(size)) => {
                Ok(Product { m, n, k })
            }
            _ => Err("expected M,N,K: three sizes from 1 to 65536".into()),
        }
    }
}

#[derive(Debug, Args)]
pub struct Bench {
    /// Devices to measure: cpu, gpu:0, gpu:1 …. Default: the CPU and every adapter, including software adapters.
    #[arg(long, value_name = "DEVICES", value_delimiter = ',')]
    pub devices: Vec<DeviceChoice>,
    /// Run only cases whose name contains NAME, or whose kind is NAME: gemm, pointwise, reduction, rows, optimizer,
    /// conv, step.
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,
    /// Run a short benchmark: a few cases of each kind, in less than a minute.
    #[arg(long)]
    pub quick: bool,
    /// Earlier bench.json to compare with. Prints which cases became faster or slower.
    #[arg(long, value_name = "OLD")]
    pub compare: Option<PathBuf>,
    /// Folder for bench.html and bench.json.
    #[arg(long, value_name = "DIR", default_value = "bench-results")]
    pub out: PathBuf,
    /// Print one JSON object as the last line of stdout.
    #[arg(long)]
    pub json: bool,
    /// Run one step of a workload on the device of --devices, and print the time since the start of this process.
    #[arg(long, hide = true, value_name = "WORKLOAD")]
    pub cold_start: Option<String>,
}

fn workload_help() -> String {
    let works = wgrad_cluster::WORKLOAD_NAMES.join(", ");
    let recipes: Vec<&str> = wgrad_recipe::builtin_names().collect();
    let recipes = recipes.join(", ");
    format!(
        "Workload: {works}; or a recipe ({recipes}, or a TOML file), whose steps are measured on this machine"
    )
}

fn machine_help() -> String {
    let machines = wgrad_cluster::builtin_machines();
    let names: Vec<&str> = machines.iter().map(|machine| machine.name.as_str()).collect();
    format!(
        "Type of the cluster's machines ({}, or a name from --machines), or all; may be repeated",
        names.join(", ")
    )
}

#[derive(Debug, Args)]
pub struct Cluster {
    #[arg(help = workload_help(), value_name = "WORK|RECIPE", default_value = "resnet50")]
    pub work: String,
    /// Set a field of the recipe, e.g. --set train.batch=512.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    #[arg(long, value_name = "NAME", help = machine_help())]
    pub machine: Vec<String>,
    /// TOML file that defines additional machines.
    #[arg(long, value_name = "TOML")]
    pub machines: Option<PathBuf>,
    /// Link between nodes, which replaces the machine's link: latency in seconds and bandwidth in bytes per second,
    /// e.g. --link 50e-6,125e6.
    #[arg(long, value_name = "SECONDS,BYTES_PER_SECOND", value_parser = parse_link)]
    pub link: Option<Link>,
    /// Measure the link with all-reduces between N replicas in this process; under mpirun, between all processes with N
    /// replicas each.
    #[arg(long, value_name = "N", value_parser = parse_replicas, conflicts_with = "link")]
    pub measure_link: Option<usize>,
    /// Largest number of devices to predict for.
    #[arg(long, value_name = "MAX", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub devices: u64,
    /// Number of examples per step on each device, for weak scaling.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub batch: Option<u64>,
    /// Number of examples per step on all devices together, for strong scaling.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    pub global_batch: Option<u64>,
    /// Algorithm that sums the gradients. Default: fastest, or ring if the link is given or measured.
    #[arg(long, value_name = "ALGORITHM")]
    pub algorithm: Option<ReduceBy>,
    /// Size of a gradient bucket, in megabytes.
    #[arg(long, value_name = "MB", default_value_t = 25.0, value_parser = parse_megabytes)]
    pub bucket_mb: f64,
    /// Device on which a recipe is measured: auto, cpu, gpu or gpu:N.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Folder for cluster.html and cluster.json.
    #[arg(long, value_name = "DIR", default_value = "cluster")]
    pub out: PathBuf,
    /// Print one JSON object as the last line of stdout.
    #[arg(long)]
    pub json: bool,
}

/// All-reduce algorithm assumed in a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReduceBy {
    /// Ring through all devices.
    Ring,
    /// Binary trees over all nodes.
    Tree,
    /// Sum within each node first, then between nodes.
    Hierarchical,
    /// Fastest algorithm for each bucket.
    Fastest,
}

fn parse_link(text: &str) -> Result<Link, String> {
    let parts =
        text.split_once(',').and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    let link = parts.map(|(latency, bytes_per_second)| Link { latency, bytes_per_second });
    let sound = |link: &Link| {
        (0.0..1e6).contains(&link.latency) && link.bytes_per_second > 0.0 && link.bytes_per_second < 1e18
    };
    link.filter(sound).ok_or_else(|| "expected SECONDS,BYTES_PER_SECOND, e.g. 50e-6,125e6".into())
}

#[derive(Debug, Args)]
pub struct Scale {
    /// Run the short sweep, which takes less than ten minutes on two cores. The full sweep takes hours.
    #[arg(long)]
    pub quick: bool,
    /// CSV file of historical systems that replaces the built-in table, with the columns published by Epoch AI.
    #[arg(long, value_name = "CSV")]
    pub data: Option<PathBuf>,
    /// TOML file of a sweep that replaces the built-in sweep.
    #[arg(long, value_name = "TOML", conflicts_with = "quick")]
    pub sweep: Option<PathBuf>,
    /// Run only these parts of the report.
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    pub only: Vec<ScalePart>,
    /// Devices that train in parallel: cpu, gpu:0, gpu:1 …. Default: the CPU and every hardware GPU.
    #[arg(long, value_name = "DEVICES", value_delimiter = ',')]
    pub devices: Vec<DeviceChoice>,
    /// Folder of your own runs to show in the history.
    #[arg(long, value_name = "DIR", default_value = crate::commands::common::RUNS)]
    pub runs: PathBuf,
    /// Folder for report.html, scale.json and trials.csv. Training runs stored there are not repeated.
    #[arg(long, value_name = "DIR", default_value = "scale")]
    pub out: PathBuf,
    /// Print one JSON object as the last line of stdout.
    #[arg(long)]
    pub json: bool,
}

/// Part of the scaling report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScalePart {
    /// Historical systems and the growth of their training compute.
    History,
    /// Throughput as a function of batch, width and number of replicas.
    Hardware,
    /// Training runs of the sweep, and the scaling laws fitted to them.
    Laws,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// Device to check: auto, cpu, gpu or gpu:N. Default: every device.
    #[arg(long)]
    pub device: Option<DeviceChoice>,
    /// Check only operations whose name contains NAME.
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,
    /// Number of random samples of each operation.
    #[arg(long, default_value_t = 5)]
    pub samples: u64,
    /// Seed of the first sample, e.g. to reproduce a failure.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print one JSON object as the last line of stdout.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Data {
    #[command(subcommand)]
    pub command: DataCommand,
}

#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// List the data sets with their licences and locations.
    List {
        /// Print a JSON list.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a data set.
    Get {
        /// Name of the data set.
        name: String,
        /// Copy the files from a folder instead of downloading them.
        #[arg(long, value_name = "DIR")]
        mirror: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub struct RecipeFile {
    #[command(subcommand)]
    pub command: RecipeCommand,
}

#[derive(Debug, Subcommand)]
pub enum RecipeCommand {
    /// List the built-in recipes.
    List,
    /// Print the TOML text of a built-in recipe, to copy and edit.
    Show {
        #[arg(help = builtin_help())]
        name: String,
    },
    /// Print the JSON Schema of recipes, which lets editors complete and check TOML files.
    Schema,
}

fn builtin_help() -> String {
    let names: Vec<&str> = wgrad_recipe::builtin_names().collect();
    format!("Name of a built-in recipe ({})", names.join(", "))
}
