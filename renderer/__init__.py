"""Generative rendering: an animated 3D scene and a prompt become a consistent clip. This package never imports Ray.

Reading order: scene, gltf, meshes, builtin, camera → atlas, rasterise, gbuffer, correspondence → noise → network, attention,
unify, sampling → render → video, metrics, manifest.
"""
