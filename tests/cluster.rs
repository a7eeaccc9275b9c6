//! Tests of the command `wgrad cluster`: predictions for built-in workloads and for a measured recipe, and errors.

use std::fs;

use crate::support::{last_json, stderr, wgrad};
use serde_json::Value;

/// Returns the points of the curve with the given scaling and scheme.
fn points<'v>(prediction: &'v Value, scaling: &str, scheme: &str) -> &'v Vec<Value> {
    let curves = prediction["curves"].as_array().unwrap();
    let curve = curves.iter().find(|curve| curve["scaling"] == scaling && curve["scheme"] == scheme);
    curve.unwrap()["points"].as_array().unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

#[test]
fn built_in_workload_is_predicted_on_every_machine() {
    let folder = tempfile::tempdir().unwrap();
    let output = wgrad(folder.path(), "cluster vgg16 --devices 64 --json");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let cluster = last_json(&output);
    let predictions = cluster["predictions"].as_array().unwrap();
    assert_eq!(predictions.len(), 6);
    for prediction in predictions {
        for (scaling, scheme) in
            [("weak", "data"), ("weak", "zero1"), ("strong", "data"), ("strong", "zero1")]
        {
            let points = points(prediction, scaling, scheme);
            assert_eq!(points.len(), 7, "1 to 64 devices");
            assert!((number(&points[0]["efficiency"]) - 1.0).abs() < 1e-9);
        }
        let weak = points(prediction, "weak", "data");
        assert!(number(&weak[6]["efficiency"]) < 1.0);
        let (data, zero) = (&weak[6]["memory"], &points(prediction, "weak", "zero1")[6]["memory"]);
        assert!(number(zero) < number(data));
    }
    for point in cluster["published"].as_array().unwrap() {
        assert!(number(&point["error"]).abs() < 0.08, "{point}");
    }
    let written = fs::read_to_string(folder.path().join("cluster/cluster.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), cluster);
    let page = fs::read_to_string(folder.path().join("cluster/cluster.html")).unwrap();
    assert!(page.contains("consumer-1gbe") && page.contains("<svg"));
}

#[test]
fn recipe_and_link_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = "cluster digits-mlp --device cpu --measure-link 2 --devices 8 --out there --json";
    let output = wgrad(folder.path(), arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let cluster = last_json(&output);
    let steps = cluster["measured"]["steps"].as_array().unwrap();
    assert_eq!(steps.iter().map(|step| &step["batch"]).collect::<Vec<_>>(), [64, 16]);
    assert!(steps.iter().all(|step| number(&step["passes"]) > 0.0));
    let link = &cluster["link"];
    assert_eq!((link["devices"].as_u64(), link["samples"].as_array().unwrap().len()), (Some(2), 8));
    assert!(number(&link["link"]["bytes_per_second"]) > 1e6);
    let machine = &cluster["machines"][0];
    assert_eq!((&machine["name"], &machine["between"]), (&Value::from("here"), &link["link"]));
    assert_eq!(cluster["options"]["algorithm"], "ring");
    // Parameters take four bytes each. Padding adds a little.
    let layers = cluster["work"]["layers"].as_array().unwrap();
    let bytes: f64 = layers.iter().map(|layer| number(&layer["bytes"])).sum();
    let parameters = number(&cluster["work"]["parameters"]);
    assert!(bytes >= 4.0 * parameters && bytes < 4.5 * parameters + 4096.0, "{bytes} for {parameters}");
    let fractions: f64 = layers.iter().map(|layer| number(&layer["share"])).sum();
    assert!((fractions - 1.0).abs() < 1e-9, "{fractions}");
    // Layers are in the order of the backward pass: the last layers of the model come first.
    let first = layers[0]["name"].as_str().unwrap();
    let last = layers[layers.len() - 2]["name"].as_str().unwrap();
    assert!(first > last, "{first} before {last}");
    assert_eq!(points(&cluster["predictions"][0], "weak", "data").len(), 4);
}

#[test]
fn machines_are_read_from_toml_and_link_overrides_them() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[lab]\ndevices = 4\nflops = 5e12\nwithin = {latency = 1e-6, bytes_per_second = 1e11}\n\
        between = {latency = 1e-5, bytes_per_second = 1e8}\n";
    fs::write(folder.path().join("lab.toml"), text).unwrap();
    let efficiency = |arguments: &str| {
        let output =
            wgrad(folder.path(), &format!("cluster resnet50 --machines lab.toml --json {arguments}"));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let cluster = last_json(&output);
        assert_eq!(cluster["predictions"].as_array().unwrap().len(), 1);
        number(&points(&cluster["predictions"][0], "weak", "data")[6]["efficiency"])
    };
    let (slow, fast) = (efficiency(""), efficiency("--link 1e-5,1e11"));
    assert!(slow < 0.5 && fast > 0.95, "{slow} and {fast}");
    assert!(efficiency("--batch 1024") > slow, "a larger batch per device hides more communication");
    fs::write(folder.path().join("bad.toml"), text.replace("flops", "flosp")).unwrap();
    let output = wgrad(folder.path(), "cluster resnet50 --machines bad.toml");
    let messages = stderr(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(messages.contains("bad.toml:3:1") && messages.contains("did you mean `flops`"), "{messages}");
}

#[test]
fn invalid_arguments_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("taken"), "").unwrap();
    for (arguments, parts) in [
        ("cluster resnet51", ["resnet51", "transformer-1.3b"]),
        ("cluster resnet50 --machine pascal-25gb", ["pascal-25gb", "did you mean `pascal-25gbe`"]),
        ("cluster resnet50 --machines missing.toml", ["cannot read", "missing.toml"]),
        ("cluster resnet50 --link 1e-5,1e9", ["--machine", "resnet50"]),
        ("cluster resnet50 --link fast", ["--link", "SECONDS,BYTES_PER_SECOND"]),
        ("cluster resnet50 --set train.batch=2", ["--set", "not a recipe"]),
        ("cluster digits-mlp --measure-link 1 --device cpu", ["--measure-link", "at least 2 replicas"]),
        ("cluster resnet50 --out taken", ["cannot create", "taken"]),
    ] {
        let output = wgrad(folder.path(), arguments);
        let messages = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {messages}");
        for part in parts {
            assert!(messages.contains(part), "{arguments}: {part:?} is missing in {messages}");
        }
    }
    assert!(!folder.path().join("cluster").exists(), "no result directory is created");
}
