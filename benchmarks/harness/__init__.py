"""What the benchmark scripts share: models and graphs, the contest and its workers, pages and pictures."""
