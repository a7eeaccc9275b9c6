//! Validates WGSL without a device. naga parses and validates the shader and translates it to every backend language.

use naga::back::{glsl, hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};

/// Parses and validates a shader and translates it to SPIR-V, MSL and HLSL.
///
/// Also translates the shader to GLSL, unless it uses f16 or subgroups.
///
/// # Errors
/// Returns naga's message if the text is not valid WGSL or cannot be translated, with the position in the text or the
/// name of the language.
pub fn validate(text: &str) -> Result<(), String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|error| error.emit_to_string(text))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::all())
        .subgroup_stages(ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all())
        .validate(&module)
        .map_err(|error| error.emit_to_string(text))?;
    let written = [
        ("SPIR-V", spirv(&module, &info)),
        ("MSL", metal(&module, &info)),
        ("HLSL", direct_x(&module, &info)),
    ];
    for (language, result) in written {
        result.map_err(|error| format!("{language}: {error}"))?;
    }
    if text.contains("enable f16;") || text.contains("subgroupBroadcast(") {
        return Ok(());
    }
    opengl(&module, &info).map_err(|error| format!("GLSL: {error}"))
}

fn spirv(module: &naga::Module, info: &ModuleInfo) -> Result<(), String> {
    // Subgroups need SPIR-V 1.3.
    let options = spv::Options { lang_version: (1, 3), ..Default::default() };
    spv::write_vec(module, info, &options, None).map(drop).map_err(|error| error.to_string())
}

fn metal(module: &naga::Module, info: &ModuleInfo) -> Result<(), String> {
    let options = msl::Options { lang_version: (2, 4), ..Default::default() };
    msl::write_string(module, info, &options, &msl::PipelineOptions::default())
        .map(drop)
        .map_err(|error| error.to_string())
}

fn direct_x(module: &naga::Module, info: &ModuleInfo) -> Result<(), String> {
    let options = hlsl::Options { shader_model: hlsl::ShaderModel::V6_2, ..Default::default() };
    let (mut text, pipeline) = (String::new(), hlsl::PipelineOptions::default());
    let mut writer = hlsl::Writer::new(&mut text, &options, &pipeline);
    writer.write(module, info, None).map(drop).map_err(|error| error.to_string())
}

fn opengl(module: &naga::Module, info: &ModuleInfo) -> Result<(), String> {
    let options = glsl::Options { version: glsl::Version::new_gles(310), ..Default::default() };
    let pipeline = glsl::PipelineOptions {
        shader_stage: naga::ShaderStage::Compute,
        entry_point: "main".into(),
        multiview: None,
    };
    let mut text = String::new();
    let policies = naga::proc::BoundsCheckPolicies::default();
    glsl::Writer::new(&mut text, module, info, &options, &pipeline, policies)
        .and_then(|mut writer| writer.write())
        .map(drop)
        .map_err(|error| error.to_string())
}
