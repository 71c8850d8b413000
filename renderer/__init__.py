"""Generative rendering: an animated 3D scene and a prompt become a consistent clip. This package never imports Ray.

Reading order: scene, load, gltf, meshes, builtin, camera → cache, atlas, rasterise, gbuffer, correspondence → noise → model,
network, attention, unify, sampling → plan, lookup, stage, exposure, paint, frames, heap, memory, checkpoint, render → video,
sheets, metrics, outputs, export, manifest.
"""
