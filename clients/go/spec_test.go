// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"slices"
	"testing"

	"github.com/google/uuid"
)

func TestIDsAreOfVersion7AndRise(t *testing.T) {
	ids := make([]string, 10_000)
	for i := range ids {
		ids[i] = newID()
	}
	if !slices.IsSorted(ids) || len(slices.Compact(ids)) != cap(ids) {
		t.Error("ids that are made one after the other do not rise")
	}
	if version := uuid.MustParse(ids[0]).Version(); version != 7 {
		t.Errorf("version %d", version)
	}
}
