//! Tests of valid recipes: defaults, round trips, built-in recipes and `--set`.

use wgrad_recipe::Recipe;
use wgrad_recipe::*;

const MINIMAL: &str = "name = 'mine'\n[data]\nkind = 'digits'\n[model]\nkind = 'mlp'\n";

fn minimal() -> Recipe {
    Recipe::parse(MINIMAL, "mine.toml").unwrap()
}

#[test]
fn absent_sections_and_keys_have_their_defaults() {
    let recipe = minimal();
    assert_eq!(recipe.optimizer, Optimizer::AdamW(AdamW::default()));
    assert_eq!(recipe.schedule, Schedule::Constant(ConstantSchedule::default()));
    assert_eq!(recipe.train, Train::default());
    assert_eq!((recipe.train.log_every, recipe.train.keep_checkpoints), (1, 3));
    assert_eq!(recipe.description, "");
}

/// Checks a recipe with all keys of the sections other than images.
#[test]
fn every_key_is_read() {
    let recipe = Recipe::parse(
        r#"
        name = "all"
        description = "every key"
        [data]
        kind = "csv"
        path = "a/b.csv"
        label = "price"
        task = "regression"
        header = true
        delimiter = ";"
        test_fraction = 0.25
        split_seed = 3
        standardize = false
        [model]
        kind = "residual-mlp"
        width = 32
        depth = 5
        activation = "leaky-relu"
        norm = "rms"
        dropout = 0.5
        [optimizer]
        kind = "adam"
        lr = 0.5
        betas = [0.5, 0.25]
        eps = 1e-6
        weight_decay = 0.125
        clip_norm = 2
        [schedule]
        kind = "step"
        warmup_steps = 7
        step_every = 11
        gamma = 0.75
        [train]
        epochs = 2
        steps = 3
        batch = 4
        eval_batch = 5
        seed = 6
        log_every = 7
        eval_every_epochs = 8
        accumulate = 9
        ema = 0.875
        label_smoothing = 0.0625
        patience = 10
        checkpoint_every_epochs = 0
        keep_checkpoints = 12
        precision = "f32"
        class_weights = [1.0, 2.5]
        recompute = true
        sync_batch_norm = true

        [transfer]
        weights = "w.pth"
        pretrain = "digits"
        pretrain_set = ["train.epochs=1"]
        replace = ["fc.*"]
        freeze = ["conv1.*", "bn1.*"]
        rates = { "fc.*" = 10.0 }
        "#,
        "all.toml",
    )
    .unwrap();
    let expected = Recipe {
        name: "all".into(),
        description: "every key".into(),
        data: Data::Csv(CsvData {
            path: "a/b.csv".into(),
            label: Some("price".into()),
            task: Task::Regression,
            header: Some(true),
            delimiter: ';',
            test_fraction: 0.25,
            split_seed: 3,
            standardize: false,
        }),
        model: Model::ResidualMlp(ResidualMlpConfig {
            width: 32,
            depth: 5,
            activation: Activation::LeakyRelu,
            norm: Norm::Rms,
            dropout: 0.5,
        }),
        optimizer: Optimizer::Adam(Adam {
            lr: 0.5,
            betas: [0.5, 0.25],
            eps: 1e-6,
            weight_decay: 0.125,
            clip_norm: Some(2.0),
        }),
        schedule: Schedule::Step(StepSchedule { warmup_steps: 7, step_every: 11, gamma: 0.75 }),
        transfer: Transfer {
            weights: Some("w.pth".into()),
            pretrain: Some("digits".into()),
            pretrain_set: vec!["train.epochs=1".into()],
            replace: vec!["fc.*".into()],
            freeze: vec!["conv1.*".into(), "bn1.*".into()],
            rates: [("fc.*".to_owned(), 10.0)].into(),
        },
        train: Train {
            epochs: 2,
            steps: Some(3),
            batch: 4,
            eval_batch: 5,
            seed: 6,
            log_every: 7,
            eval_every_epochs: 8,
            accumulate: 9,
            ema: Some(0.875),
            label_smoothing: 0.0625,
            class_weights: Some(vec![1.0, 2.5]),
            balance_classes: false,
            recompute: true,
            sync_batch_norm: true,
            patience: Some(10),
            checkpoint_every_epochs: 0,
            keep_checkpoints: 12,
            precision: Precision::F32,
        },
    };
    assert_eq!(recipe, expected);
    assert_eq!(Recipe::parse(&recipe.to_toml().unwrap(), "again").unwrap(), recipe);
}

/// Checks a recipe with all keys of a residual network.
#[test]
fn every_key_of_a_residual_network_is_read() {
    let text = "name = 'net'\ndata.kind = 'cifar-10'\n[model]\nkind = 'resnet'\nfamily = 'imagenet'\ndepth = 34\n\
        stem = 'small'\nwidth = 24\nshortcut = 'none'\npreactivation = true\nzero_init = true\nnorm = 'group'";
    let recipe = Recipe::parse(text, "net.toml").unwrap();
    let expected = Model::ResNet(ResNetModel {
        family: Family::Imagenet,
        depth: 34,
        stem: Some(Stem::Small),
        width: Some(24),
        shortcut: Some(Shortcut::None),
        preactivation: true,
        zero_init: true,
        norm: ImageNorm::Group,
    });
    assert_eq!(recipe.model, expected);
    assert_eq!(Recipe::parse(&recipe.to_toml().unwrap(), "again").unwrap(), recipe);
    for (assignment, words) in [
        ("model.depth=20", "18, 34 or 50"),
        ("model.width=0", "1 to 4096"),
        ("model.shortcut=identity", "projection"),
        ("transfer.rates={\"fc.*\"=0.0}", "transfer.freeze"),
        ("train.class_weights=[1.0,-1.0]", "greater than 0"),
    ] {
        let error = recipe.clone().set(assignment).unwrap_err().to_string();
        assert!(error.contains(words), "{assignment}: {error}");
    }
    let both = ["train.class_weights=[1.0]", "train.balance_classes=true"];
    assert!(recipe.clone().set_all(&both).unwrap_err().to_string().contains("balance_classes"));
}

/// Checks a recipe with all keys of images.
#[test]
fn every_key_of_images_is_read() {
    let recipe = Recipe::parse(
        r#"
        name = "all"
        model.kind = "mlp"
        [data]
        kind = "image-csv"
        path = "a"
        labels = "b.csv"
        image_column = "c"
        label_column = "d"
        split_column = "e"
        classes = ["f", "g"]
        size = 32
        channels = 1
        normalize = "dataset"
        test_fraction = 0.25
        validation_fraction = 0.125
        limit = 7
        split_seed = 3
        [data.augment]
        scale = [0.5, 1]
        crop = 4
        flip = true
        vertical_flip = true
        rotate90 = true
        brightness = 0.5
        contrast = 0.75
        cutout = 8
        "#,
        "all.toml",
    )
    .unwrap();
    let augment = Augment {
        scale: Some([0.5, 1.0]),
        crop: 4,
        flip: true,
        vertical_flip: true,
        rotate90: true,
        brightness: 0.5,
        contrast: 0.75,
        cutout: 8,
    };
    let expected = ImageCsvData {
        path: "a".into(),
        labels: "b.csv".into(),
        image_column: Some("c".into()),
        label_column: Some("d".into()),
        split_column: Some("e".into()),
        classes: Some(vec!["f".into(), "g".into()]),
        size: 32,
        channels: 1,
        normalize: Normalize::Dataset,
        test_fraction: Some(0.25),
        validation_fraction: Some(0.125),
        limit: Some(7),
        split_seed: 3,
        augment,
    };
    assert_eq!(recipe.data, Data::ImageCsv(expected));
    let images = recipe.data.images().unwrap();
    assert_eq!((images.size, images.channels, images.normalize), (32, 1, Normalize::Dataset));
    assert_eq!((images.test_fraction, images.validation_fraction), (Some(0.25), Some(0.125)));
    assert_eq!((images.limit, images.split_seed, images.augment), (Some(7), 3, &augment));
    assert_eq!(images.classes.map(<[String]>::len), Some(2));
    assert_eq!(Recipe::parse(&recipe.to_toml().unwrap(), "again").unwrap(), recipe);
}

#[test]
fn images_have_defaults() {
    let digits = minimal().data;
    assert_eq!(digits, Data::Digits(PixelData::default()));
    let images = digits.images().unwrap();
    assert_eq!((images.size, images.channels, images.normalize), (8, 1, Normalize::None));
    assert_eq!((images.limit, images.validation_fraction), (None, None));
    assert_eq!(images.augment, &Augment::default());
    let with = |kind: &str| {
        let mut recipe = minimal();
        recipe.set(&format!("data.kind={kind}")).unwrap();
        let images = recipe.data.images().unwrap();
        (images.size, images.channels)
    };
    assert_eq!([with("mnist"), with("fashion-mnist")], [(28, 1); 2]);
    assert_eq!([with("cifar-10"), with("isic-2017")], [(32, 3), (64, 3)]);
}

#[test]
fn set_changes_a_key_of_a_nested_table() {
    let mut recipe = minimal();
    recipe.set_all(&["data.augment.flip=true", "data.augment.crop=2", "data.kind=cifar-10"]).unwrap();
    let augment = Augment { flip: true, crop: 2, ..Augment::default() };
    assert_eq!(recipe.data, Data::Cifar10(PixelData { augment, ..PixelData::default() }));
    recipe.set("data.augment.crop=").unwrap();
    assert_eq!(recipe.data.images().unwrap().augment.crop, 0);
    recipe.set("data.augment=").unwrap();
    assert_eq!(recipe.data, Data::Cifar10(PixelData::default()));
    recipe.set_all(&["data.kind=image-folder", "data.path=a", "data.augment.rotate90=true"]).unwrap();
    assert!(recipe.data.images().unwrap().augment.rotate90);
}

#[test]
fn every_kind_survives_a_round_trip() {
    let sections = [
        (
            "data",
            &[
                "kind='digits'",
                "kind='mnist'",
                "kind='fashion-mnist'",
                "kind='csv'\npath='a'\nlabel='x y'\nheader=false",
                "kind='cifar-10'\nlimit=3\naugment={flip=true,scale=[0.25,1.0]}",
                "kind='isic-2017'\nclasses=['nevus','melanoma']",
                "kind='image-folder'\npath='a'\ntest_fraction=0.25",
                "kind='image-csv'\npath='a'\nlabels='b'\nsplit_column='part'",
            ][..],
        ),
        ("model", &["kind='mlp'\nhidden=[]", "kind='residual-mlp'"]),
        ("optimizer", &["kind='sgd'\nlr=0.30000000000000004", "kind='adam'", "kind='adamw'\neps=1e-300"]),
        (
            "schedule",
            &["kind='constant'", "kind='step'", "kind='cosine'", "kind='one-cycle'\nwarmup_steps=3"],
        ),
    ];
    for (section, bodies) in sections {
        for body in bodies {
            let base = match section {
                "data" => "[model]\nkind='mlp'",
                "model" => "[data]\nkind='digits'",
                _ => "[data]\nkind='digits'\n[model]\nkind='mlp'",
            };
            let recipe = Recipe::parse(&format!("name='x'\n{base}\n[{section}]\n{body}"), "x").unwrap();
            let text = recipe.to_toml().unwrap();
            assert_eq!(Recipe::parse(&text, "again").unwrap(), recipe, "{text}");
        }
    }
}

#[test]
fn to_toml_contains_defaults() {
    let text = minimal().to_toml().unwrap();
    for line in
        ["hidden = [128, 128]", "batch = 64", "lr = 0.001", "betas = [0.9, 0.999]", "kind = \"constant\""]
    {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("patience"), "absent options remain absent:\n{text}");
}

#[test]
fn built_in_recipes_match_the_files_of_the_folder() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    let mut names: Vec<&str> = builtin_names().collect();
    names.sort();
    assert_eq!(names, files);
    for name in names {
        assert_eq!(load(name).unwrap().name, name);
    }
}

#[test]
fn built_in_recipes_keep_the_shapes_that_benches_use() {
    let digits = load("digits").unwrap();
    assert!(matches!(digits.model, Model::ResidualMlp(_)) && matches!(digits.data, Data::Digits(_)));
    let plain = load("digits-mlp").unwrap();
    assert!(matches!(&plain.model, Model::Mlp(mlp) if mlp.hidden == [128, 128]));
    assert_eq!(plain.train.batch, 64);
    let fashion = load("fashion-mlp").unwrap();
    assert!(matches!(&fashion.model, Model::Mlp(mlp) if mlp.hidden == [512, 512]));
    assert!(matches!(&fashion.optimizer, Optimizer::Sgd(sgd) if sgd.momentum > 0.0));
    assert_eq!(fashion.train.batch, 256);
    assert!([digits, plain, fashion].iter().all(|recipe| recipe.train.log_every == 1));
}

#[test]
fn recipe_is_loaded_from_a_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, MINIMAL).unwrap();
    assert_eq!(load(path.to_str().unwrap()).unwrap(), minimal());
}

#[test]
fn set_changes_one_key() {
    let mut recipe = minimal();
    recipe.set("train.batch=128").unwrap();
    recipe.set("model.hidden=[64,64]").unwrap();
    recipe.set(" optimizer.lr = 3e-4").unwrap();
    recipe.set("model.activation=gelu").unwrap();
    recipe.set("name=other").unwrap();
    recipe.set("train.steps=20").unwrap();
    recipe.set_all(&["data.kind=csv", "data.path=2024-01-01"]).unwrap();
    assert_eq!((recipe.train.batch, recipe.train.steps, recipe.optimizer.lr()), (128, Some(20), 3e-4));
    assert!(
        matches!(&recipe.model, Model::Mlp(m) if m.hidden == [64, 64] && m.activation == Activation::Gelu)
    );
    assert_eq!(recipe.name, "other");
    assert!(matches!(&recipe.data, Data::Csv(csv) if csv.path.to_str() == Some("2024-01-01")));
}

#[test]
fn empty_value_restores_the_default() {
    let mut recipe = minimal();
    recipe.set_all(&["train.steps=20", "train.batch=128", "optimizer.clip_norm=1"]).unwrap();
    recipe.set_all(&["train.steps=", "train.batch=", "optimizer.clip_norm="]).unwrap();
    assert_eq!(recipe, minimal());
}

#[test]
fn last_assignment_of_a_key_is_used() {
    let mut recipe = minimal();
    recipe.set_all(&["train.batch=1", "train.batch=2"]).unwrap();
    assert_eq!(recipe.train.batch, 2);
}

/// Checks that the order of `kind` and the other keys does not matter.
#[test]
fn kind_is_set_together_with_its_keys() {
    for order in [
        ["data.kind=csv", "data.path=a.csv", "data.label=price"],
        ["data.path=a.csv", "data.label=price", "data.kind=csv"],
    ] {
        let mut recipe = minimal();
        recipe.set_all(&order).unwrap();
        assert!(
            matches!(&recipe.data, Data::Csv(csv) if csv.path.to_str() == Some("a.csv") && csv.label.as_deref() == Some("price"))
        );
    }
}

#[test]
fn changed_kind_keeps_values_that_are_not_defaults() {
    let mut recipe = minimal();
    recipe.set("optimizer.clip_norm=1.5").unwrap();
    recipe.set("optimizer.kind=sgd").unwrap();
    assert_eq!(recipe.optimizer, Optimizer::Sgd(Sgd { clip_norm: Some(1.5), ..Sgd::default() }));

    let mut recipe = minimal();
    recipe.set_all(&["optimizer.lr=0.25", "optimizer.kind=adam"]).unwrap();
    assert_eq!(recipe.optimizer, Optimizer::Adam(Adam { lr: 0.25, ..Adam::default() }));
}
