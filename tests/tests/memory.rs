//! Memory as it is planned: intermediates take little more than those of them that are alive at once. Plans need the shape
//! of the data, not the data, so every recipe is planned here on examples that are all zero.

use wgrad::data::DataError;
use wgrad::prelude::*;
use wgrad::program::Limits;
use wgrad::run::Recipe;
use wgrad::run::recipe;
use wgrad::train::setup_on;

/// What memory may be, as a share of the largest live set.
const MOST: f64 = 1.15;

/// The workloads of the benches that are no built-in recipes.
const WORKLOADS: [&str; 3] = [
    "name = 'mlp'
     data.kind = 'fashion-mnist'
     model = { kind = 'mlp', hidden = [512, 512] }
     optimizer = { kind = 'sgd' }
     train = { batch = 256 }",
    "name = 'mlp-big'
     data = { kind = 'csv', path = 'none', task = 'regression' }
     model = { kind = 'mlp', hidden = [2048, 2048] }
     optimizer = { kind = 'adam' }
     train = { batch = 512, eval_batch = 512 }",
    "name = 'resnet'
     data.kind = 'cifar-10'
     model = { kind = 'resnet', depth = 20, shortcut = 'projection' }
     optimizer = { kind = 'sgd' }
     train = { batch = 64 }",
];

/// Limits under which the data lies on the device, and some under which it is uploaded.
const LIMITS: [Limits; 2] = [
    Limits { buffer_bytes: 1 << 40, operand_bytes: 1 << 40, operands: 8, f16: false },
    Limits { buffer_bytes: 1 << 40, operand_bytes: 1 << 20, operands: 8, f16: false },
];

/// Examples of the shape that a recipe's data has, all zero.
fn examples(recipe: &Recipe) -> Result<Splits, DataError> {
    let count = recipe.train.batch.max(recipe.train.eval_batch);
    let part = |classes: usize, shape: [usize; 3]| {
        let names = (0..classes).map(|class| class.to_string()).collect();
        let labels = (0..count).map(|i| (i % classes) as u32).collect();
        let bytes = vec![0; count * shape.iter().product::<usize>()];
        Dataset::from_pixels("zero", bytes, shape, 255, Targets::Classes { labels, names })
    };
    let part = || match &recipe.data {
        recipe::Data::Digits(_) => part(10, [1, 8, 8]),
        recipe::Data::FashionMnist(_) | recipe::Data::Mnist(_) => part(10, [1, 28, 28]),
        recipe::Data::Cifar10(_) => part(10, [3, 32, 32]),
        recipe::Data::Isic2017(isic) => {
            let classes = isic.classes.as_ref().map_or(3, Vec::len);
            part(classes, [isic.channels, isic.size, isic.size])
        }
        recipe::Data::Csv(_) => {
            let targets = Targets::Values { values: vec![0.0; count * 1024], width: 1024 };
            Dataset::new("zero", vec![0.0; count * 1024], vec![1024], targets)
        }
        other => panic!("say here what {} looks like", other.kind()),
    };
    Ok(Splits::new(part()?, part()?))
}

fn plan(recipe: &Recipe, limits: &Limits) -> Plan {
    let parts = setup_on(recipe, examples(recipe).unwrap()).unwrap();
    Plan::new(parts.model, &parts.splits, parts.config, limits).unwrap()
}

fn every_recipe() -> Vec<Recipe> {
    let builtin = recipe::builtin_names().map(|name| recipe::load(name).unwrap());
    builtin.chain(WORKLOADS.map(|text| Recipe::parse(text, "a workload").unwrap())).collect()
}

#[test]
fn slabs_are_little_more_than_the_largest_live_set() {
    let mut over = Vec::new();
    for recipe in every_recipe() {
        for limits in &LIMITS {
            let plan = plan(&recipe, limits);
            let passes = plan.passes.iter().map(|(phase, program)| (format!("{phase:?}"), program));
            let evaluations = plan.evaluations.iter().map(|(name, p)| (name.as_str().to_owned(), p));
            for (name, program) in passes.chain(evaluations) {
                let (slabs, live) = (program.slab_bytes(), program.live_bytes);
                let ratio = slabs as f64 / live as f64;
                println!(
                    "{} {name}: live {live}, slabs {slabs} {:?}, ratio {ratio:.3}",
                    recipe.name, program.slabs
                );
                if ratio > MOST {
                    over.push(format!("{} {name}: {ratio:.3}", recipe.name));
                }
            }
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}

/// What recomputation does to the training step of a recipe: slabs and FLOPs, as shares of those without.
fn recomputed(recipe: &Recipe) -> (f64, f64) {
    let mut again = recipe.clone();
    again.train.recompute = true;
    let of = |recipe: &Recipe| {
        let plan = plan(recipe, &LIMITS[0]);
        let (_, program) = plan.passes.first().unwrap();
        (program.slab_bytes() as f64, program.cost().flops as f64)
    };
    let ((kept, flops), (less, more)) = (of(recipe), of(&again));
    (less / kept, more / flops)
}

#[test]
fn recomputation_takes_less_memory() {
    for recipe in every_recipe() {
        let (memory, work) = recomputed(&recipe);
        println!("{}: memory {memory:.3}, work {work:.3}", recipe.name);
    }
}
