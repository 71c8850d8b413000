"""The words of the world: for every material, environment, light and style the phrases that may name it in a prompt.

Plain data, no torch: the renderer's vocabulary file is written from it. `{c}` stands for the hero's colour, `{b}` for a plain
background's. The first phrase of each is the canonical one, which the judge and the evaluation use.
"""

from dataclasses import dataclass

COLOURS = ["red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black", "brown", "turquoise", "grey"]


@dataclass(frozen=True)
class Material:
    """`adjectives` stand before a noun,
    `substances` after "made of"; `creatures` name subject and material in one word."""

    adjectives: tuple[str, ...]
    substances: tuple[str, ...]
    creatures: tuple[str, ...] = ()


MATERIALS: dict[str, Material] = {
    "gold": Material(("golden", "gold", "solid gold", "gilded"), ("gold", "shiny gold", "pure gold", "polished gold")),
    "chrome": Material(
        ("chrome", "silver", "mirror", "chrome plated"), ("chrome", "silver", "mirrors", "liquid metal")
    ),
    "copper": Material(("copper", "bronze", "antique bronze"), ("copper", "bronze with green patina", "old bronze")),
    "rust": Material(("rusty", "rusted", "corroded"), ("rust", "rusty iron", "rusted metal", "corroded iron")),
    "plates": Material(
        ("steel plated", "mechanical", "armored", "riveted"), ("steel plates", "iron plates", "riveted steel", "armor")
    ),
    "marble": Material(("marble", "white marble", "carved marble"), ("marble", "white marble", "veined marble")),
    "granite": Material(("stone", "granite", "rock"), ("stone", "granite", "grey rock", "speckled stone")),
    "moss": Material(("mossy", "moss covered", "overgrown"), ("moss", "mossy stone", "stone and moss")),
    "wood": Material(("wooden", "wood", "carved wooden", "oak"), ("wood", "carved wood", "oak wood", "timber")),
    "brick": Material(("brick", "red brick"), ("bricks", "red brick", "brickwork")),
    "ice": Material(("ice", "icy", "frozen"), ("ice", "blue ice", "frozen water", "clear ice")),
    "lava": Material(("lava", "molten", "magma", "fiery"), ("lava", "molten lava", "glowing magma", "fire and lava")),
    "leopard": Material(
        ("leopard", "leopard print", "jaguar"),
        ("leopard fur", "leopard print", "leopard skin"),
        ("leopard", "jaguar", "cheetah"),
    ),
    "zebra": Material(
        ("zebra", "zebra striped", "black and white striped"), ("zebra stripes", "zebra skin"), ("zebra",)
    ),
    "tiger": Material(("tiger", "tiger striped"), ("tiger fur", "tiger stripes"), ("tiger", "bengal tiger")),
    "cow": Material(
        ("cow", "cow spotted", "cow print"), ("cow hide", "cow skin", "black cow patches"), ("cow", "dairy cow")
    ),
    "giraffe": Material(
        ("giraffe", "giraffe patterned", "giraffe print"), ("giraffe skin", "giraffe patches"), ("giraffe",)
    ),
    "knit": Material(
        ("knitted", "{c} knitted", "knitted {c}", "woolen", "crochet"),
        ("knitted wool", "{c} wool", "yarn", "{c} knitted yarn"),
    ),
    "leaves": Material(("leafy", "topiary", "hedge"), ("leaves", "green leaves", "foliage", "plants"), ("topiary",)),
    "flowers": Material(("floral", "flowery", "blooming"), ("flowers", "blossoms", "colorful flowers")),
    "denim": Material(("denim", "blue denim", "jeans"), ("denim", "jeans fabric", "blue denim")),
    "candy": Material(
        ("candy cane", "candy", "peppermint", "red and white striped"), ("candy", "candy cane", "peppermint candy")
    ),
    "porcelain": Material(
        ("porcelain", "blue and white porcelain", "china"), ("porcelain", "painted china", "blue and white porcelain")
    ),
    "crystal": Material(
        ("crystal", "amethyst", "purple crystal", "gemstone"), ("crystal", "amethyst", "purple crystals", "gemstones")
    ),
    "origami": Material(("origami", "paper", "folded paper"), ("paper", "folded paper", "origami paper"), ("origami",)),
    "sand": Material(("sand", "sandy", "sandcastle"), ("sand", "wet sand", "rippled sand")),
    "snow": Material(
        ("snow", "snow covered", "snowy white"), ("snow", "packed snow", "fresh snow"), ("snowman", "yeti")
    ),
    "terracotta": Material(("terracotta", "clay", "earthenware"), ("terracotta", "clay", "baked clay")),
    "neon": Material(
        ("neon", "neon wireframe", "glowing neon", "hologram"),
        ("neon lights", "neon lines", "neon tubes", "glowing neon"),
    ),
    "plastic": Material(
        ("{c} plastic", "{c}", "glossy {c}", "plastic {c}"), ("{c} plastic", "glossy {c} plastic", "{c} vinyl")
    ),
    "metallic": Material(
        ("metallic {c}", "{c} metallic", "{c} metal"), ("{c} metal", "metallic {c} paint", "shiny {c} metal")
    ),
    "fur": Material(
        ("{c} furry", "furry {c}", "fluffy {c}", "hairy {c}"),
        ("{c} fur", "soft {c} fur", "fluffy {c} hair"),
        ("teddy bear", "plush toy"),
    ),
    "checker": Material(
        ("{c} checkered", "checkered {c}", "checkered"),
        ("{c} and white checkers", "{c} checkered tiles", "a {c} checkerboard"),
    ),
    "dots": Material(
        ("{c} polka dot", "polka dotted {c}", "polka dot"),
        ("{c} polka dots", "{c} fabric with white dots", "polka dots"),
    ),
    "chocolate": Material(
        ("chocolate", "milk chocolate", "dark chocolate"), ("chocolate", "dark chocolate", "chocolate bars")
    ),
    "rainbow": Material(
        ("rainbow", "rainbow colored", "multicolored"), ("rainbow colors", "a rainbow", "all colors of the rainbow")
    ),
    "galaxy": Material(
        ("galaxy", "cosmic", "starry", "nebula"), ("stars and galaxies", "a galaxy", "stardust", "the universe")
    ),
    "jade": Material(("jade", "green jade", "emerald"), ("jade", "polished jade", "emerald")),
    "jelly": Material(
        ("jelly", "slime", "gummy", "gelatin"),
        ("jelly", "green slime", "gummy candy", "green jelly"),
        ("slime", "gummy bear"),
    ),
    "scales": Material(
        ("scaly", "dragon scale", "reptile", "scaled"),
        ("scales", "dragon scales", "green scales", "reptile skin"),
        ("lizard", "green dragon", "crocodile"),
    ),
    "gingerbread": Material(
        ("gingerbread", "cookie", "biscuit"), ("gingerbread", "cookie dough and icing", "biscuit"), ("gingerbread man",)
    ),
}

ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "snow forest": (
        "in a snowy forest",
        "in a winter forest",
        "among snowy pine trees",
        "in a snow covered forest",
        "in winter woods",
    ),
    "desert": ("in a desert", "in the sahara desert", "among sand dunes", "in the dunes"),
    "beach": ("on a beach", "on a sandy beach by the ocean", "at the seaside", "by the sea", "on the shore"),
    "neon city": (
        "in a neon city",
        "in a night city",
        "in a cyberpunk city",
        "on a neon street",
        "in a city at night",
        "in tokyo",
    ),
    "meadow": (
        "in a meadow",
        "on a grassy field",
        "in a flower meadow",
        "on a green lawn",
        "on green hills",
        "on a farm",
    ),
    "studio": (
        "in a studio",
        "on a grey background",
        "in a photo studio",
        "on a studio backdrop",
        "in an empty grey room",
    ),
    "plain": ("on a {b} background", "in front of a {b} wall", "against a plain {b} backdrop", "on plain {b}"),
    "space": ("in space", "in outer space", "among the stars", "on the moon", "in the cosmos"),
    "underwater": (
        "underwater",
        "under water",
        "under the sea",
        "at the bottom of the ocean",
        "deep underwater",
        "on a coral reef",
    ),
    "volcano": ("near a volcano", "on a volcano", "in a volcanic landscape", "in hell", "in mordor"),
    "autumn forest": (
        "in an autumn forest",
        "in autumn woods",
        "among fall leaves",
        "in a forest in autumn",
        "in a fall forest",
    ),
    "clouds": ("in the clouds", "in the sky", "above the clouds", "in heaven", "on a cloud"),
    "room": ("in a cozy room", "in a wooden room", "in a cabin", "indoors", "in a living room", "in a wooden house"),
    "mountains": ("in the mountains", "in front of snowy mountains", "on a mountain", "in the alps"),
    "jungle": ("in a jungle", "in the rainforest", "in a tropical forest", "in a green forest", "among tropical trees"),
    "blossom garden": (
        "in a cherry blossom garden",
        "among cherry trees",
        "under pink blossoms",
        "in a japanese garden",
        "in spring",
    ),
    "arctic": (
        "in the arctic",
        "on an iceberg",
        "among icebergs",
        "on a frozen sea",
        "at the north pole",
        "in antarctica",
    ),
    "castle": ("in a castle", "in a castle hall", "in a stone hall", "in a dungeon", "in a cathedral", "in a temple"),
}

LIGHTS: dict[str, tuple[str, ...]] = {
    "day": ("in daylight", "by day", "on a sunny day", "in bright light"),
    "sunset": ("at sunset", "in sunset light", "during golden hour", "at dusk", "at dawn"),
    "night": ("moonlight", "at night", "in moonlight", "on a moonlit night", "in the dark"),
    "fog": ("in fog", "foggy", "in the mist", "on a misty morning", "hazy"),
    "storm": ("in a storm", "stormy weather", "under a stormy sky", "in heavy rain", "rainy"),
    "neon light": ("in neon light", "pink and cyan lighting", "under neon lights", "synthwave lighting"),
    "spotlight": ("in a spotlight", "dramatic lighting", "under a spotlight", "dark dramatic light",
    "low key lighting"),
}  # fmt: skip

STYLES: dict[str, tuple[str, ...]] = {
    "render": ("3d render", "photo", "photorealistic", "photograph", "realistic", "cgi"),
    "watercolor": ("watercolor", "watercolor painting", "watercolour", "watercolour painting", "aquarelle"),
    "pencil": ("pencil drawing", "pencil sketch", "sketch", "colored pencil drawing", "drawing"),
    "oil": ("oil painting", "oil on canvas", "impressionist painting", "painting", "van gogh painting"),
    "comic": ("comic", "comic book style", "cartoon", "cel shaded", "anime"),
    "pixel art": ("pixel art", "8 bit pixel art", "retro game art", "pixelated"),
}  # fmt: skip

# What a subject may be called. Any noun may stand for any shape, most of the time a fitting one.
PEOPLE = (
    "statue", "figure", "person", "robot", "man", "woman", "dancer", "character", "warrior", "astronaut", "soldier",
    "knight", "girl",
    "boy", "golem", "puppet", "mannequin", "giant", "monster", "doll", "hero", "king", "queen", "wizard", "android",
    "alien", "ninja",
    "runner", "athlete", "ballerina", "humanoid", "zombie", "ghost", "angel", "goblin", "troll", "child", "people",
    "human", "pirate",
)  # fmt: skip
ANIMALS = (
    "animal", "fox", "dog", "cat", "wolf", "horse", "creature", "deer", "dragon", "lion", "beast", "bear", "statue",
    "unicorn", "pony",
    "puppy", "kitten", "sheep", "goat", "elephant", "rabbit", "bull", "dinosaur", "monster", "donkey", "camel",
    "pig", "mouse", "panda",
)  # fmt: skip
FISHES = ("fish", "shark", "whale", "goldfish", "sea creature", "dolphin", "salmon", "carp")
BIRDS = (
    "bird",
    "eagle",
    "owl",
    "parrot",
    "crow",
    "phoenix",
    "duck",
    "swan",
    "penguin",
    "chicken",
    "dragon",
    "butterfly",
    "bat",
)
VESSELS = (
    "vase",
    "bottle",
    "pot",
    "ornament",
    "lamp",
    "jar",
    "goblet",
    "cup",
    "urn",
    "chess piece",
    "sculpture",
    "bell",
    "teapot",
)
VEHICLES = (
    "truck",
    "car",
    "vehicle",
    "toy car",
    "train",
    "bus",
    "van",
    "tractor",
    "machine",
    "wagon",
    "toy",
    "milk truck",
    "tank",
)
THINGS = (
    "object", "sculpture", "shape", "toy", "cube", "ball", "sphere", "ring", "box", "building", "donut", "cylinder",
    "block", "blocks",
    "house", "tower", "thing", "head", "pillar", "gift", "torus", "knot", "star", "heart",
)  # fmt: skip
BLOBS = ("blob", "potato", "balloon", "ball", "sculpture", "thing", "egg", "apple", "mushroom", "bunny")
CLOTHS = ("flag", "cloth", "sheet", "banner", "carpet", "curtain", "towel", "blanket", "sail", "cape", "fabric")
NOUNS = {
    "humanoid": PEOPLE, "quadruped": ANIMALS, "fish": FISHES, "bird": BIRDS, "vase": VESSELS, "vehicle": VEHICLES,
    "blocks": THINGS, "blob": BLOBS, "cloth": CLOTHS,
}  # fmt: skip
ANYTHING = (
    "statue",
    "sculpture",
    "figure",
    "creature",
    "monster",
    "character",
    "object",
    "toy",
    "robot",
    "thing",
    "animal",
    "model",
)

# Words of praise and filler that people write into prompts; they change nothing.
FILLER = (
    "highly detailed", "beautiful", "masterpiece", "best quality", "4k", "hd", "high resolution", "amazing",
    "cinematic", "animation",
    "sharp focus", "detailed", "intricate", "stunning", "epic", "cute", "pretty", "elegant", "professional",
    "award winning", "artstation",
    "octane render", "unreal engine", "high quality", "colorful", "vivid", "soft", "clean", "simple", "magical",
    "fantasy", "ancient",
)  # fmt: skip
MOTIONS = (
    "dancing",
    "walking",
    "running",
    "standing",
    "jumping",
    "flying",
    "turning",
    "spinning",
    "posing",
    "moving",
    "sitting",
    "swimming",
)
SIZES = (
    "small",
    "little",
    "big",
    "large",
    "huge",
    "tiny",
    "giant",
    "old",
    "young",
    "new",
    "happy",
    "angry",
    "brave",
    "fat",
    "tall",
)
GLUE = (
    "a", "an", "the", "of", "in", "on", "at", "with", "and", "made", "out", "from", "built", "covered", "by", "to",
    "is", "as", "style",
    "background", "scene", "picture", "image", "art", "for", "near", "its", "his", "her", "one", "two", "light",
    "night", "day", "color",
    "colour", "colored", "coloured", "painted", "looking", "like", "very", "over", "under", "front",
)  # fmt: skip


def phrases() -> list[str]:
    """Every phrase of the world, with the colours spelt out."""
    found: list[str] = [*COLOURS, *FILLER, *MOTIONS, *SIZES, *GLUE, *ANYTHING]
    for material in MATERIALS.values():
        found += [*material.adjectives, *material.substances, *material.creatures]
    for table in (ENVIRONMENTS, LIGHTS, STYLES, NOUNS):
        for group in table.values():
            found += group
    return [p.replace("{c}", "red").replace("{b}", "red") for p in found]


def known_words() -> list[str]:
    """Every single word of the world, sorted."""
    return sorted({word for phrase in phrases() for word in phrase.split()})
