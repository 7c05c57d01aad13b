"""Cityscapes' class ids by name, for the modules that give the street its labels."""

from __future__ import annotations

from rt_panoptic_core.taxonomy import UNLABELLED, Taxonomy

TAXONOMY = Taxonomy.load("cityscapes")

ROAD = TAXONOMY.class_id("road")
SIDEWALK = TAXONOMY.class_id("sidewalk")
BUILDING = TAXONOMY.class_id("building")
WALL = TAXONOMY.class_id("wall")
FENCE = TAXONOMY.class_id("fence")
POLE = TAXONOMY.class_id("pole")
TRAFFIC_LIGHT = TAXONOMY.class_id("traffic light")
TRAFFIC_SIGN = TAXONOMY.class_id("traffic sign")
VEGETATION = TAXONOMY.class_id("vegetation")
TERRAIN = TAXONOMY.class_id("terrain")
SKY = TAXONOMY.class_id("sky")
PERSON = TAXONOMY.class_id("person")
RIDER = TAXONOMY.class_id("rider")
CAR = TAXONOMY.class_id("car")
TRUCK = TAXONOMY.class_id("truck")
BUS = TAXONOMY.class_id("bus")
TRAIN = TAXONOMY.class_id("train")
MOTORCYCLE = TAXONOMY.class_id("motorcycle")
BICYCLE = TAXONOMY.class_id("bicycle")
VOID = UNLABELLED
