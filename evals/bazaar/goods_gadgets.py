"""Phone, laptop, headphones, camera, handbag, backpack, watch, toy car: parts, attributes, accessories, prices."""

from __future__ import annotations

from evals.bazaar.vocabulary import Category, Part
from evals.bazaar.vocabulary import accessories as _accessories
from evals.bazaar.vocabulary import attributes as _attributes
from evals.bazaar.vocabulary import when as _when

GADGETS = (
    Category(
        "phone",
        ("smartphone", "mobile phone", "cell phone"),
        ("plastic", "metal", "leather"),
        (
            Part("back"),
            Part("screen", "glass", 1.5),
            Part("lens", "glass", 1.5, surface=False, removable=True),
            Part("camera bump", "plastic", surface=False),
            Part("logo", "metal", 0.6, surface=False, removable=True),
            Part("buttons", "metal", 0.6, surface=False, removable=True),
        ),
        _attributes(
            lenses={
                "one": "one lens|a single lens|just one lens on the back",
                "two": "two lenses|a twin lens|two lenses on the back",
                "three": "three lenses|a triple lens|three lenses on the back",
            },
            bump={
                "square": "a square camera bump|a square lens island",
                "round": "a round camera bump|a round lens island",
                "bar": "a wide camera bar|a camera bar across the back",
            },
            bezel={"thick": "thick bezels|a wide frame around the screen", "slim": "slim bezels|a nearly frameless screen"},
        ),
        _accessories("charger! box"),
        "camera bump",
        (180, 1100),
        0.34,
    ),
    Category(
        "laptop",
        ("notebook computer", "portable computer"),
        ("plastic", "metal", "wood"),
        (
            Part("screen", "glass", 1.5),
            Part("lid"),
            Part("keyboard", "plastic", removable=True),
            Part("touchpad", "plastic", 0.6, surface=False, removable=True),
            Part("deck"),
        ),
        _attributes(
            screen={"wide": "a wide screen|a widescreen display", "tall": "a tall screen|a squarish display"},
            touchpad={"round": "a round touchpad|a circular touchpad", "square": "a square touchpad|a rectangular touchpad"},
            keyboard={
                "full": "a number pad|a full keyboard with a number pad",
                "compact": "a compact keyboard|a small keyboard without a number pad",
            },
        ),
        _accessories("charger! mouse"),
        "keyboard",
        (350, 2200),
        0.28,
    ),
    Category(
        "headphones",
        ("headset", "pair of headphones"),
        ("plastic", "metal", "leather"),
        (
            Part("headband"),
            Part("ear cup"),
            Part("ear pad", "fabric", surface=False, removable=True),
            Part("cable", "rubber", 0.6, surface=False, removable=True, when=_when("cable", "straight", "coiled")),
            Part("microphone", "plastic", 0.6, surface=False, removable=True, when=_when("microphone", "boom")),
        ),
        _attributes(
            cups={"round": "round ear cups|circular ear cups", "square": "square ear cups|boxy ear cups"},
            band={"thin": "a thin headband|a slim headband", "padded": "a padded headband|a thick headband"},
            cable={
                "straight": "a straight cable|a plain cord",
                "coiled": "a coiled cable|a curly cord",
                "none": "no cable|no cord, wireless",
            },
            microphone={"boom": "a boom microphone|a microphone arm", "none": "no microphone"},
        ),
        _accessories("case! adapter"),
        "ear pad",
        (40, 420),
        0.26,
    ),
    Category(
        "camera",
        ("photo camera", "digital camera"),
        ("leather", "metal", "plastic"),
        (
            Part("body"),
            Part("lens", "glass", 1.5),
            Part("lens ring", "metal", surface=False),
            Part("top plate", "metal"),
            Part("flash", "plastic", 0.6, surface=False, removable=True, when=_when("flash", "square", "round")),
            Part("shutter button", "metal", 0.6, surface=False, removable=True),
        ),
        _attributes(
            lens={"large": "a large lens|a big wide lens", "small": "a small lens|a tiny lens"},
            hump={"prism": "a pointed prism hump|a prism on top", "flat": "a flat top|a flat top plate"},
            flash={"square": "a square flash|a rectangular flash", "round": "a round flash bulb|a round flash", "none": "no flash"},
        ),
        _accessories("strap! lens_cap"),
        "lens ring",
        (150, 1500),
        0.22,
    ),
)

CARRIED = (
    Category(
        "handbag",
        ("purse", "ladies bag"),
        ("leather", "fabric", "denim", "plastic"),
        (
            Part("body"),
            Part("handle", removable=True),
            Part("flap", surface=False, when=_when("top", "flap")),
            Part("zip", "metal", 0.6, surface=False, removable=True, when=_when("top", "zip")),
            Part("clasp", "metal", 0.6, surface=False, removable=True),
            Part("bottom trim", surface=False),
        ),
        _attributes(
            shape={
                "boxy": "a boxy shape|a rectangular body",
                "round": "a round shape|a round body",
                "flared": "a flared shape|a body wider at the bottom",
            },
            handle={
                "short": "a short handle|a short top handle",
                "long": "a long strap|a long shoulder strap",
                "double": "two handles|double handles",
            },
            top={"flap": "a flap|a front flap", "zip": "a zip top|a zipper along the top"},
            clasp={"round": "a round clasp", "square": "a square clasp"},
        ),
        _accessories("dust_bag! purse_charm"),
        "bottom trim",
        (45, 900),
        0.12,
    ),
    Category(
        "backpack",
        ("rucksack", "school bag"),
        ("fabric", "leather", "denim"),
        (
            Part("body"),
            Part("pocket", surface=False, removable=True),
            Part("straps", "fabric", 0.6, surface=False, removable=True),
            Part("flap", surface=False, when=_when("top", "flap")),
            Part("zip", "metal", 0.6, surface=False, removable=True, when=_when("top", "zip")),
            Part("top handle", "fabric", 0.6, surface=False, removable=True),
        ),
        _attributes(
            shape={"boxy": "a boxy shape|square corners", "round": "a rounded top|a round arched top"},
            top={"flap": "a flap top|a flap with buckles", "zip": "a zip top|an arched zipper"},
            pockets={
                "one": "one front pocket|a single large pocket",
                "two": "two front pockets|a pair of pockets",
                "three": "three front pockets|three pockets",
            },
        ),
        _accessories("rain_cover! bottle"),
        "pocket",
        (30, 260),
        0.20,
    ),
    Category(
        "watch",
        ("wristwatch", "wrist watch"),
        ("leather", "metal", "fabric", "plastic"),
        (
            Part("strap"),
            Part("case", "metal"),
            Part("dial", "glass", 1.5),
            Part("hands", "metal", surface=False, removable=True),
            Part("crown", "metal", 0.6, surface=False, removable=True),
        ),
        _attributes(
            dial={"round": "a round dial|a circular face", "square": "a square dial|a square face"},
            markers={
                "dots": "dot markers|dots around the dial",
                "bars": "bar markers|bars around the dial",
                "none": "no hour markers|an empty dial",
            },
            crown={"one": "one crown|a single side button", "three": "three side buttons|a crown and two pushers"},
            strap={"wide": "a wide strap|a broad band", "slim": "a slim strap|a narrow band"},
        ),
        _accessories("watch_box! spare_strap"),
        "dial",
        (40, 1400),
        0.13,
    ),
    Category(
        "toy car",
        ("toy automobile", "model car"),
        ("plastic", "metal", "wood"),
        (
            Part("body"),
            Part("cabin", surface=False),
            Part("windows", "glass", surface=False),
            Part("wheels", "rubber", removable=True),
            Part("headlight", "plastic", 0.6, surface=False, removable=True),
            Part("spoiler", surface=False, removable=True, when=_when("extra", "spoiler")),
            Part("roof rack", "metal", surface=False, removable=True, when=_when("extra", "rack")),
            Part("bumper", "metal", 0.6, surface=False),
        ),
        _attributes(
            form={
                "sedan": "a sedan shape|a rounded cabin in the middle",
                "truck": "a pickup shape|an open load bed",
                "van": "a van shape|a tall boxy cabin",
                "racer": "a low racing shape|a flat racing body",
            },
            wheels={"big": "big wheels|large wheels", "small": "small wheels|little wheels"},
            extra={
                "spoiler": "a rear spoiler|a spoiler",
                "rack": "a roof rack|a luggage rack on the roof",
                "none": "a bare roof|nothing on the roof",
            },
        ),
        _accessories("remote! garage_box"),
        "bumper",
        (8, 80),
        0.18,
    ),
)
