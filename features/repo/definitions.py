"""What Feast's command line finds here: the objects of the workspace at NEXTCHANNEL_HOME."""

import os
from pathlib import Path

from sqlalchemy import create_engine

from features.workspace import FeatureWorkspace

# The views follow from the stored list; no history is read.
_views = FeatureWorkspace(Path(os.environ["NEXTCHANNEL_HOME"]), create_engine("sqlite://")).views

customer = _views.customer
rows = _views.rows
vector = _views.vector
vector_push = _views.vector_push
service = _views.service
