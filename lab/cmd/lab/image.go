// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"ovs-ipsec-offload/lab/image"
)

// newImage returns the verb image.
func newImage() *cobra.Command {
	var rebuild, verify, prune bool
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Build the image if it is missing, and say where it is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return imageCommand(cmd.Context(), rebuild, verify, prune)
		},
	}
	cmd.Flags().BoolVar(&rebuild, "rebuild", false, "build it even if it is there")
	cmd.Flags().BoolVar(&verify, "verify", false, "compare all checksums; build it again if one does not fit")
	cmd.Flags().BoolVar(&prune, "prune", false, "remove images of other recipes")
	return cmd
}

// imageCommand builds the image if it has to, and prints where it is.
func imageCommand(ctx context.Context, rebuild, verify, prune bool) error {
	cache, err := openCache(os.Stderr)
	if err != nil {
		return err
	}
	recipe := image.DefaultRecipe()
	if verify {
		if _, err := cache.Verify(recipe); err != nil {
			fmt.Fprintf(os.Stderr, "lab: %v\n", err)
			rebuild = true
		}
	}
	get := cache.Ensure
	if rebuild {
		get = cache.Rebuild
	}
	img, err := get(ctx, recipe)
	if err != nil {
		return err
	}
	fmt.Println(img.Disk())
	if prune {
		return cache.Prune(ctx, recipe)
	}
	return nil
}
