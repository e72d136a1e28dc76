"""The search page: a FastAPI app over one corpus, and one static page without a build step."""
