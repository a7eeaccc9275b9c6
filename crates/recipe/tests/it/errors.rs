//! Tests of recipe errors: place, key and hint.

use wgrad_recipe::{Hint, Recipe, RecipeError, load};

const HEAD: &str = "name = 'mine'\ndata.kind = 'digits'\nmodel.kind = 'mlp'\n";

/// Returns the error message for [`HEAD`] (three lines) followed by `text`.
fn refused(text: &str) -> String {
    Recipe::parse(&format!("{HEAD}{text}"), "mine.toml").unwrap_err().to_string()
}

/// Returns the error message of an assignment to the recipe [`HEAD`].
fn set(assignment: &str) -> String {
    let mut recipe = Recipe::parse(HEAD, "mine.toml").unwrap();
    let before = recipe.clone();
    let message = recipe.set(assignment).unwrap_err().to_string();
    assert_eq!(recipe, before, "a refused assignment must not change the recipe");
    message
}

#[test]
fn unknown_keys_are_reported_with_place_and_hint() {
    for (text, expected) in [
        (
            "[train]\nepochs = 3\nbacth = 64",
            "mine.toml:6:1: unknown key `train.bacth`, did you mean `train.batch`?",
        ),
        (
            "[optimizer]\nkind = 'sgd'\n  momentun = 0",
            "mine.toml:6:3: unknown key `optimizer.momentun`, did you mean `optimizer.momentum`?",
        ),
        ("[trian]\nepochs = 3", "mine.toml:4:2: unknown key `trian`, did you mean `train`?"),
        ("batch = 3", "mine.toml:4:1: unknown key `batch`, did you mean `train.batch`?"),
        ("[train]\nlr = 0.1", "mine.toml:5:1: unknown key `train.lr`, did you mean `optimizer.lr`?"),
        (
            "[schedule]\nkind = 'cosine'\nzzz = 1",
            "mine.toml:6:1: unknown key `schedule.zzz`, known: schedule.kind, schedule.warmup_steps, schedule.min_lr",
        ),
        (
            "\"é\" = { \"ü\" = 1 }",
            "mine.toml:4:1: unknown key `é`, known: name, description, data, model, optimizer, schedule, transfer, train",
        ),
        (
            "[data.augment]\nflipp = true",
            "mine.toml:5:1: unknown key `data.augment.flipp`, did you mean `data.augment.flip`?",
        ),
        (
            "[train]\ncutout = 8",
            "mine.toml:5:1: unknown key `train.cutout`, did you mean `data.augment.cutout`?",
        ),
        ("train = { \"é\" = 1 }", "mine.toml:4:11: unknown key `train.é`, known: train.epochs"),
    ] {
        let message = refused(text);
        assert!(message.starts_with(expected), "{message}\nshould start with\n{expected}");
    }
}

#[test]
fn keys_of_another_kind_are_unknown() {
    let message = refused("[optimizer]\nkind = 'sgd'\nbetas = [0.9, 0.9]");
    assert!(message.starts_with("mine.toml:6:1: unknown key `optimizer.betas`"), "{message}");
    let message =
        Recipe::parse("name='a'\ndata.kind='digits'\n[model]\nkind='mlp'\nwidth=3", "a").unwrap_err();
    assert!(matches!(&message, RecipeError::UnknownKey { key, .. } if key == "model.width"), "{message}");
}

#[test]
fn unknown_kinds_and_choices_are_reported_with_a_hint() {
    assert_eq!(
        refused("[optimizer]\nkind = 'adamv'"),
        "mine.toml:5:1: `optimizer.kind` is `adamv`, did you mean `adam`?"
    );
    assert_eq!(
        refused("[schedule]\nkind = 'zzz'"),
        "mine.toml:5:1: `schedule.kind` is `zzz`, known: constant, step, cosine, one-cycle"
    );
    let text = "name = 'a'\ndata.kind = 'digits'\n[model]\nkind = 'mlp'\nactivation = 'rleu'";
    let error = Recipe::parse(text, "a.toml").unwrap_err();
    assert_eq!(error.to_string(), "a.toml:5:14: `model.activation` is `rleu`, did you mean `relu`?");
    assert_eq!(
        refused("[train]\nprecision = 'f16'"),
        "mine.toml:5:13: `train.precision` is `f16`, known: f32"
    );
}

#[test]
fn wrong_types_are_reported_with_the_expected_type() {
    for (text, expected) in [
        (
            "[train]\nbatch = 'many'",
            "mine.toml:5:9: `train.batch`: expected an integer, 0 or more, found string \"many\"",
        ),
        (
            "[train]\nbatch = 1.5",
            "mine.toml:5:9: `train.batch`: expected an integer, 0 or more, found number 1.5",
        ),
        (
            "[train]\nbatch = -1",
            "mine.toml:5:9: `train.batch`: expected an integer, 0 or more, found integer -1",
        ),
        ("[train]\nepochs = []", "`train.epochs`: expected an integer, 0 or more, found a list"),
        (
            "[optimizer]\nlr = 'fast'",
            "mine.toml:5:6: `optimizer.lr`: expected a number, found string \"fast\"",
        ),
        (
            "[optimizer]\nbetas = [0.9]",
            "`optimizer.betas`: expected a list of 2 numbers, found a list of length 1",
        ),
        (
            "[optimizer]\nbetas = [0.9, 'x']",
            "mine.toml:5:15: `optimizer.betas`: expected a number, found string \"x\"",
        ),
        ("[optimizer]\nkind = 3", "mine.toml:5:8: `optimizer.kind`: expected a string, found integer 3"),
        (
            "optimizer = { lr = 'fast' }",
            "mine.toml:4:20: `optimizer.lr`: expected a number, found string \"fast\"",
        ),
        ("data.augment = 3", "mine.toml:4:16: `data.augment`: expected a section, found integer 3"),
        (
            "data.augment.crop = 'far'",
            "mine.toml:4:21: `data.augment.crop`: expected an integer, 0 or more, found string \"far\"",
        ),
        ("train = 3", "mine.toml:4:9: `train`: expected a section, found integer 3"),
        ("description = 3", "mine.toml:4:15: `description`: expected a string, found integer 3"),
    ] {
        let message = refused(text);
        assert!(message.contains(expected), "{message}\nshould contain\n{expected}");
    }
}

#[test]
fn missing_keys_are_reported_by_name() {
    let parse = |text: &str| Recipe::parse(text, "a.toml").unwrap_err().to_string();
    assert_eq!(parse("data.kind='digits'\nmodel.kind='mlp'"), "a.toml: `name` is missing");
    assert_eq!(parse("name='a'\nmodel.kind='mlp'"), "a.toml: `data.kind` is missing");
    assert_eq!(
        parse("name='a'\ndata.kind='digits'\n[model]\nwidth = 3"),
        "a.toml:3:2: `model.kind` is missing"
    );
    assert_eq!(parse("name='a'\nmodel.kind='mlp'\n[data]\nkind='csv'"), "a.toml:3:2: `data.path` is missing");
}

#[test]
fn invalid_toml_is_reported_with_its_place() {
    let message = refused("[train\nbatch = 3");
    assert!(message.starts_with("mine.toml:4:"), "{message}");
    assert!(refused("[train]\nbatch = 3\nbatch = 4").starts_with("mine.toml:6:1: duplicate key"));
    assert!(matches!(Recipe::parse("\0", "a").unwrap_err(), RecipeError::Syntax { .. }));
}

/// Checks values outside and inside of every range.
#[test]
fn values_out_of_range_are_refused() {
    let (isic, cifar) = ("data.kind=isic-2017 ", "data.kind=cifar-10 ");
    let folder = "data.kind=image-folder data.path=a ";
    let table = "data.kind=image-csv data.path=a data.labels=b ";
    let (csv, residual) = ("data.kind=csv data.path=a ", "model.kind=residual-mlp ");
    for (kind, key, bad, good) in [
        ("", "name", &["''", "'a/b'", "'.a'", "'ä'"][..], &["'a-b_c.1'"][..]),
        (csv, "data.path", &["''"], &["'x'"]),
        (csv, "data.test_fraction", &["0", "1", "nan"], &["0.999"]),
        (csv, "data.delimiter", &["'1'", "'.'", "'é'"], &["';'", "\"\\t\""]),
        (folder, "data.path", &["''"], &["'x'"]),
        (table, "data.path", &["''"], &["'x'"]),
        (table, "data.labels", &["''"], &["'x'"]),
        (isic, "data.size", &["0", "4097"], &["1", "4096"]),
        (folder, "data.channels", &["0", "2", "4"], &["1", "3"]),
        (isic, "data.classes", &["['a']", "['a', 'a']", "[]"], &["['a', 'b']"]),
        (table, "data.test_fraction", &["0", "1"], &["0.5"]),
        (folder, "data.test_fraction", &["0", "1"], &["0.5"]),
        ("", "data.validation_fraction", &["0", "1", "nan"], &["0.5"]),
        (table, "data.validation_fraction", &["0"], &["0.5"]),
        ("", "data.limit", &["0", "4294967296"], &["1"]),
        (cifar, "data.split_seed", &["9223372036854775808"], &["9223372036854775807"]),
        ("", "data.normalize", &["imagenet"], &["dataset", "none"]),
        (cifar, "data.normalize", &[], &["imagenet"]),
        ("", "data.augment.crop", &["9"], &["0", "8"]),
        (cifar, "data.augment.crop", &["33"], &["32"]),
        ("data.kind=mnist ", "data.augment.cutout", &["29"], &["28"]),
        (isic, "data.augment.cutout", &["65"], &["64"]),
        (cifar, "data.augment.scale", &["[0, 1]", "[0.5, 0.4]", "[0.5, 1.1]"], &["[0.5, 0.5]", "[0.1, 1]"]),
        (cifar, "data.augment.brightness", &["-0.1", "1.1", "nan"], &["0", "1"]),
        (cifar, "data.augment.contrast", &["-0.1", "1.1"], &["0", "1"]),
        ("", "model.hidden", &["[0]", "[64, 0]", "[1048577]"], &["[1]", "[]", "[1048576]"]),
        ("", "model.dropout", &["1", "-0.1", "nan"], &["0", "0.99"]),
        (residual, "model.width", &["0", "1048577"], &["1", "1048576"]),
        (residual, "model.depth", &["0", "10001"], &["1", "10000"]),
        (residual, "model.dropout", &["1"], &["0"]),
        ("", "optimizer.lr", &["0", "-1", "inf", "nan"], &["1e-30", "1e30"]),
        ("", "optimizer.weight_decay", &["-0.1", "inf"], &["0"]),
        ("", "optimizer.clip_norm", &["0", "inf"], &["1e-3"]),
        ("", "optimizer.eps", &["0", "nan"], &["1e-30"]),
        ("", "optimizer.betas", &["[1, 0]", "[0, 1]", "[-1, 0]"], &["[0, 0.999]"]),
        ("optimizer.kind=adam ", "optimizer.betas", &["[1, 0]"], &["[0, 0]"]),
        ("optimizer.kind=sgd ", "optimizer.momentum", &["1", "-0.1"], &["0", "0.99"]),
        ("optimizer.kind=sgd optimizer.momentum=0 ", "optimizer.nesterov", &["true"], &["false"]),
        ("schedule.kind=step ", "schedule.step_every", &["0"], &["1"]),
        ("schedule.kind=step ", "schedule.gamma", &["0", "1.1"], &["1"]),
        ("schedule.kind=cosine ", "schedule.min_lr", &["-1", "0.0011"], &["0.001"]),
        ("schedule.kind=one-cycle ", "schedule.min_lr", &["-1", "0.0011"], &["0.001"]),
        ("", "train.epochs", &["0", "4294967296"], &["1", "4294967295"]),
        ("", "train.steps", &["0"], &["1"]),
        ("", "train.batch", &["0", "16777217"], &["1", "16777216"]),
        ("", "train.eval_batch", &["0", "16777217"], &["1"]),
        ("", "train.log_every", &["0"], &["1"]),
        ("", "train.eval_every_epochs", &["0"], &["1"]),
        ("", "train.accumulate", &["0"], &["1"]),
        ("", "train.patience", &["0"], &["1"]),
        ("", "train.keep_checkpoints", &["0"], &["1"]),
        ("", "train.ema", &["0", "1"], &["0.999"]),
        ("", "train.label_smoothing", &["1", "-0.1"], &["0"]),
        ("", "train.seed", &["9223372036854775808"], &["9223372036854775807"]),
    ] {
        for value in bad {
            let assignments: Vec<String> =
                kind.split_whitespace().map(str::to_owned).chain([format!("{key}={value}")]).collect();
            let error = Recipe::parse(HEAD, "a").unwrap().set_all(&assignments).unwrap_err();
            let message = error.to_string();
            // TOML cannot represent this integer, so the error is about the type of the value.
            let of_range = matches!(&error, RecipeError::Invalid { key: found, .. } if found == key);
            assert!(of_range || *value == "9223372036854775808", "{key}={value}: {message}");
            assert!(
                message.starts_with(&format!("--set {key}={value}: `{key}`")),
                "{key}={value}: {message}"
            );
        }
        for value in good {
            let assignments: Vec<String> =
                kind.split_whitespace().map(str::to_owned).chain([format!("{key}={value}")]).collect();
            let result = Recipe::parse(HEAD, "a").unwrap().set_all(&assignments);
            assert!(result.is_ok(), "{key}={value}: {}", result.unwrap_err());
        }
    }
}

#[test]
fn value_out_of_range_is_located() {
    assert_eq!(
        refused("[train]\n  batch = 0"),
        "mine.toml:5:3: `train.batch` must be 1 to 16777216, found 0"
    );
}

#[test]
fn validate_checks_a_recipe_built_in_code() {
    let mut recipe = Recipe::parse(HEAD, "a").unwrap();
    recipe.validate().unwrap();
    recipe.train.batch = 0;
    assert_eq!(
        recipe.validate().unwrap_err().to_string(),
        "recipe `mine`: `train.batch` must be 1 to 16777216, found 0"
    );
}

/// A path can contain bytes that are not UTF-8, but a TOML file cannot.
#[cfg(unix)]
#[test]
fn path_that_is_not_utf8_cannot_be_encoded() {
    use std::os::unix::ffi::OsStringExt;
    let mut recipe = Recipe::parse(HEAD, "a").unwrap();
    recipe.set_all(&["data.kind=csv", "data.path=a"]).unwrap();
    if let wgrad_recipe::Data::Csv(csv) = &mut recipe.data {
        csv.path = std::ffi::OsString::from_vec(vec![0xff]).into();
    }
    assert!(matches!(recipe.to_toml().unwrap_err(), RecipeError::Encode(_)));
    assert!(matches!(recipe.set("train.batch=1").unwrap_err(), RecipeError::Encode(_)));
}

#[test]
fn invalid_assignments_are_reported() {
    assert_eq!(
        set("train.bacth=1"),
        "--set train.bacth=1: unknown key `train.bacth`, did you mean `train.batch`?"
    );
    assert_eq!(
        set("trian.batch=1"),
        "--set trian.batch=1: unknown key `trian.batch`, did you mean `train.batch`?"
    );
    assert!(set("format=9").starts_with("--set format=9: this version of wgrad reads formats up to"));
    assert_eq!(set("batch=1"), "--set batch=1: unknown key `batch`, did you mean `train.batch`?");
    assert_eq!(
        set("zzz.batch=1"),
        "--set zzz.batch=1: unknown key `zzz.batch`, known: data.…, model.…, optimizer.…, schedule.…, transfer.…, train.…"
    );
    for text in ["train.batch", "train=3", ""] {
        assert!(set(text).contains("expected `section.key=value`"), "{text}");
    }
    assert_eq!(
        set("train.batch=many"),
        "--set train.batch=many: `train.batch`: expected an integer, 0 or more, found string \"many\""
    );
    assert_eq!(
        set("optimizer.kind=adamv"),
        "--set optimizer.kind=adamv: `optimizer.kind` is `adamv`, did you mean `adam`?"
    );
    assert_eq!(
        set("data.augment.flipp=true"),
        "--set data.augment.flipp=true: unknown key `data.augment.flipp`, did you mean `data.augment.flip`?"
    );
    assert!(set("data.kind.x=1").contains("expected `section.key=value`"));
    assert!(set("train.augment.flip=true").contains("unknown key `train.augment`"));
    assert_eq!(set("data.kind=image-folder"), "--set data.kind=image-folder: `data.path` is missing");
    assert_eq!(set("data.kind=csv"), "--set data.kind=csv: `data.path` is missing");
    assert!(set("train.batch=1\nseed=3").contains("found string"), "one assignment must not contain another");
}

#[test]
fn unknown_recipes_are_reported_with_a_hint() {
    let error = load("digit").unwrap_err();
    assert!(
        matches!(&error, RecipeError::UnknownRecipe { hint: Hint::Nearest(near), .. } if near == "digits"),
        "{error}"
    );
    assert_eq!(
        load("zzz").unwrap_err().to_string(),
        "unknown recipe `zzz`, known: digits, digits-mlp, fashion-mlp, fashion-resnet, cifar-resnet20, skin-scratch, skin-transfer (the path of a recipe file ends in .toml)"
    );
    let error = load("/nowhere/at-all.toml").unwrap_err();
    assert!(matches!(error, RecipeError::Read { .. }));
    assert!(error.to_string().contains("/nowhere/at-all.toml"), "{error}");
}
